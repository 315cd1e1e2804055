"""Why is noise added on the way back? The posterior's mean alone, and every share of new noise, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError
from carrara.evaluation.studies.study import Cell, Study, whole

if TYPE_CHECKING:
    from carrara.evaluation.report import Section
    from carrara.model import Model

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
MEAN = "mean only"
"""The line of the posterior's mean: eta 1 at temperature 0."""

QUESTION = """\
Each step of the reverse process draws x_s from a Gaussian: its mean, and then noise. Why not take the mean, which is the \
best guess? Here one model walks from the same seeds with every share of new noise, eta from 0 to 1, and once with the \
mean alone (eta 1, temperature 0: the walk of eta 1 with its noise left out).

Eta 0 adds no noise either. It is not the mean: it keeps the noise that x_t holds at the strength that time s asks for, \
where the posterior's mean keeps a part of it and counts on fresh noise for the rest. So compare "mean only" with eta 1, which \
differs from it in the fresh noise alone, and with eta 0, which adds none and needs none."""

PATH = """\
The standard deviation of x_s over the samples, root mean square over its pixels, in the codec's units. It should be \
√(alpha² · variance of the data + sigma²): what the network met in training. A walk below that line asks the network about \
inputs it has never seen."""


def cells(model: Model, values: Sequence[float]) -> list[Cell]:
    """For each number of steps the ancestral sampler with every eta, and with the posterior's mean alone."""
    from carrara.processes import Gaussian

    process = model.denoiser.process
    if not isinstance(process, Gaussian):
        raise InputError(
            f"the study 'noise' compares shares of Gaussian noise; this model's process is {type(process).__name__}, "
            "which has no such share"
        )
    lines = [(f"eta {eta:g}", {"eta": eta}) for eta in ETAS] + [(MEAN, {"eta": 1.0, "temperature": 0.0})]
    return [
        Cell(line, steps, {"sampler": "ancestral", "steps": steps, "options": options})
        for line, options in lines
        for steps in whole(values, "steps")
    ]


def sections(result: Mapping[str, Any]) -> list[Section]:
    """The spread of x_s on the way, beside what it should be, for each number of steps."""
    from carrara.evaluation.report import Chart, Row, Section

    return [Section("The noise on the way", PATH, [Row([Chart(path_chart(result, x)) for x in result["values"]])])]


def path_chart(result: Mapping[str, Any], steps: float) -> str:
    """The spread of x_s against s: of eta 0, of eta 1, of the mean alone, and as it should be."""
    from carrara.evaluation.charts import line_chart

    shown = [cell for cell in result["cells"] if cell["x"] == steps and cell["line"] in ("eta 0", "eta 1", MEAN)]
    lines = {cell["line"]: (cell["path"]["s"], cell["path"]["spread"]) for cell in shown}
    should = {"as it should be": (shown[0]["path"]["s"], shown[0]["path"]["expected"])}
    return line_chart(should | lines, f"Spread of x_s, {steps:g} steps", "time s: 1 is noise, 0 data", "spread")


NOISE = Study(
    name="noise",
    title="Why noise is added",
    question=QUESTION,
    axis="steps",
    values=(5, 10, 50, 250),
    sets=("sampler", "steps", "options"),
    cells=cells,
    measures=("frechet", "precision", "recall", "coverage", "apart", "apart_in_class", "spread", "contrast"),
    sections=sections,
)
