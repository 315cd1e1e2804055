"""How many evaluations does a picture need? Several samplers, each at several numbers of evaluations of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError
from carrara.evaluation.studies.study import Cell, Study, whole
from carrara.processes import Gaussian

if TYPE_CHECKING:
    from carrara.evaluation.report import Section
    from carrara.model import Model

LINES: dict[str, dict[str, Any]] = {
    "ancestral": {"sampler": "ancestral"},
    "ddim": {"sampler": "ddim"},
    "heun": {"sampler": "heun"},
    "dpmpp_2m": {"sampler": "dpmpp_2m"},
    "adams, logistic": {"sampler": "adams", "times": {"kind": "logistic"}},
}
"""What each line is sampled with; the grid is the recipe's own where none is named."""

QUESTION = """\
Every evaluation of the network costs the same, whichever sampler asks for it. Here the same seeds are walked by several \
samplers with the same numbers of evaluations, so that a point further down on the same value is a better picture for the same \
money.

A sampler of two evaluations a step, but one in the last, makes odd numbers of them: at an even one its line has no point. \
Samplers with noise need many steps, but go on to improve where others have long converged to the network's own error."""


def cells(model: Model, values: Sequence[float]) -> list[Cell]:
    """For each line its steps at every number of evaluations that they can make up exactly."""
    if not isinstance(model.denoiser.process, Gaussian):
        raise InputError(
            f"the study 'steps' compares samplers of Gaussian diffusion; this model's process is "
            f"{type(model.denoiser.process).__name__}"
        )
    evaluations = whole(values, "evaluations")
    found = [
        Cell(line, count, {**wishes, "steps": steps})
        for line, wishes in LINES.items()
        for count in evaluations
        if (steps := steps_of(model, wishes, count)) is not None
    ]
    if not found:
        raise InputError(f"no sampler makes exactly {evaluations} evaluations; give other numbers, such as 5,10,20")
    return found


def steps_of(model: Model, wishes: Mapping[str, Any], evaluations: int) -> int | None:
    """The steps with which a sampler makes exactly so many evaluations, None where no number of steps does."""
    for steps in range(1, evaluations + 1):
        made = model.sampling.changed(**wishes, guidance_scale=1.0, steps=steps).passes()
        if made is None or made > evaluations:
            return None
        if made == evaluations:
            return steps
    return None


def sections(result: Mapping[str, Any]) -> list[Section]:
    """Nothing beside the common part."""
    return []


STEPS = Study(
    name="steps",
    title="Evaluations and quality",
    question=QUESTION,
    axis="evaluations",
    values=(5, 9, 17, 33, 65),
    sets=("sampler", "steps", "times", "options"),
    cells=cells,
    measures=("frechet", "precision", "recall", "coverage"),
    sections=sections,
)
