"""Why are tokens drawn, and not the likeliest taken? From greedy to hotter than believed, repetition against sense."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError
from carrara.evaluation.studies.study import Cell, Study
from carrara.evaluation.texts.figures import MEASURES

if TYPE_CHECKING:
    from carrara.evaluation.report import Chart
    from carrara.model import Model

ALL = "all tokens"
TOP_P = 0.9
"""The share of the probability that the second line draws from."""

QUESTION = """\
A model of text gives each token a probability. Why not take the likeliest, which is the best guess? Because the likeliest text \
is no likely text: what people write surprises again and again, and a text that never does says the same thing over and over. \
The same is why diffusion adds noise on the way back.

Here one model goes on with the same beginnings of held-out texts (from nothing, where a text is a window), from the same seeds, \
at several temperatures: 0 takes the likeliest token (greedy), below 1 likely ones are drawn more often than the model believes, 1 \
draws as it believes, above 1 goes beyond. Top-p draws from the fewest tokens that hold 90 % of the probability.

Look at greedy first: how much it repeats itself, how few words it has, and what the judge makes of that. A judge's perplexity \
falls when text becomes less varied, so alone it would choose the text that says least. The best temperature is the one at which \
all figures meet those of held-out text."""

READING = """\
A line a way of drawing. Held-out text is what the same beginnings really go on with, measured as the samples are, at as many \
tokens: the nearer to it the better, from both sides."""


def cells(model: Model, values: Sequence[float]) -> list[Cell]:
    """The model's own sampler at every temperature, from all tokens and, where the sampler can, from the likeliest ones."""
    takes = inspect.signature(model.sampling.entry().walk).parameters
    if "temperature" not in takes:
        raise InputError(
            f"the study 'noise' of texts varies the temperature, and the sampler {model.sampling.sampler!r} has none"
        )
    if not values or len(set(values)) < len(values) or min(values) < 0:
        raise InputError(f"the study needs different temperatures of 0 or more, at least one; got {list(values)}")
    lines: list[tuple[str, dict[str, Any]]] = [(ALL, {})]
    lines += [(f"top-p {TOP_P:g}", {"top_p": TOP_P})] if "top_p" in takes else []
    own = model.sampling.options
    return [
        Cell(line, value, {"options": {**own, **options, "temperature": value}})
        for line, options in lines
        for value in sorted(values)
        if value or not options  # Greedy is the same among all and among the likeliest.
    ]


def charts(result: Mapping[str, Any]) -> list[Chart]:
    """A chart of each measure against the temperature, beside held-out text; perplexity on a logarithmic axis."""
    from carrara.evaluation.report import Chart

    names = [name for name in TEXT_NOISE.measures if result["heldout"][name] is not None]
    return [Chart(_chart(result, name), MEASURES[name].meaning) for name in names]


def _chart(result: Mapping[str, Any], name: str) -> str:
    from carrara.evaluation.charts import line_chart
    from carrara.evaluation.studies.page import HELDOUT, lines, points

    series = {line: points(result, line, name) for line in lines(result)}
    level = (result["values"], [result["heldout"][name]] * len(result["values"]))
    return line_chart(
        series | {HELDOUT: level},
        f"{MEASURES[name].title}: near to held out is better",
        "temperature: 0 is greedy, 1 as believed",
        MEASURES[name].unit,
        log_y=name == "perplexity",
    )


TEXT_NOISE = Study(
    name="noise",
    title="Why tokens are drawn",
    question=QUESTION,
    axis="temperature",
    values=(0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2),
    sets=("options",),
    cells=cells,
    measures=("perplexity", "unknown", "entropy", "distinct_1", "distinct_2", "distinct_3", "repeated", "longest"),
    sections=lambda result: [],
    log_x=False,
    charts=charts,
    reading=READING,
)
TEXT_STUDIES: dict[str, Study] = {study.name: study for study in (TEXT_NOISE,)}
