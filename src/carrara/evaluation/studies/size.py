"""How many samples does a Fréchet distance need? One set of samples, measured at several sizes, with the interval of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError
from carrara.evaluation.studies.study import Cell, Study, whole
from carrara.evaluation.uncertainty import PARTS

if TYPE_CHECKING:
    from carrara.evaluation.report import Chart
    from carrara.model import Model

LINE = "the model"
LEAST, SIZES = 100, 5

QUESTION = """\
A Fréchet distance is measured with few samples because samples cost time, and it is too great for it: the covariance of \
few pictures is too wide in some directions and blind in others, by about a constant over n. It is uncertain too: other samples \
of the same model give another one. So two distances can be compared only at one n, and a difference within their intervals \
may be none.

Here a model is sampled once, and its first n samples are measured, for several n. Held-out pictures, which no model can beat, \
are measured at the same n. Where the two lines keep their distance, more samples would say nothing new of the model."""

READING = """\
The line of samples with its 95 % bootstrap interval, that of as many held-out pictures, and, level, what the distance would be \
with infinitely many samples: the end of a line through the distances of subsets, against 1/n, of all samples. The reference is \
the same throughout, so that held-out pictures too come down as n grows. Where the subsets are smaller than the features are \
many, the level keeps some of the bias, and lies too high."""


def sizes(n: int) -> list[float]:
    """Five sizes up to n, each as many times the one before, from 100 on; from a fifth of n where that is less."""
    first = max(2 * PARTS, min(LEAST, n // 5))
    return sorted({round(first * (n / first) ** (step / (SIZES - 1))) for step in range(SIZES)})


def cells(model: Model, values: Sequence[float]) -> list[Cell]:
    """The first so many samples of the recipe's own way of sampling."""
    counts = whole(values, "samples")
    if min(counts) < 2 * PARTS:
        raise InputError(f"an interval needs {2 * PARTS} samples or more; got {min(counts)}")
    return [Cell(LINE, count, {}, n=count) for count in sorted(counts)]


def charts(result: Mapping[str, Any]) -> list[Chart]:
    """The distance against n, beside the floor at each n and the distance at infinite n."""
    from carrara.evaluation.charts import line_chart
    from carrara.evaluation.report import Chart

    found, values = result["cells"], [cell["x"] for cell in result["cells"]]
    value, low, high, floor = ([cell[name] for cell in found] for name in ("frechet", "low", "high", "floor"))
    lines = {
        "samples": (values, value),
        "their 95 % interval": ([*values, values[-1], *values], [*low, float("nan"), *high]),
        "held out": (values, floor),
        "samples, infinite n": (values, [found[-1]["infinite"]] * len(values)),
    }
    return [Chart(line_chart(lines, "Fréchet distance: lower is better", "samples n", "distance", log_x=True))]


SIZE = Study(
    name="size",
    title="How many samples",
    question=QUESTION,
    axis="samples",
    values=(),
    sets=(),
    cells=cells,
    measures=("frechet", "low", "high", "floor", "infinite"),
    sections=lambda result: [],
    sizes=sizes,
    guided=True,
    charts=charts,
    reading=READING,
)
