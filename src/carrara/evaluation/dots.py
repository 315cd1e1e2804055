"""Charts of single points with intervals, as SVG text in the manner of `carrara.evaluation.charts`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from carrara.evaluation.charts import INK, MUTED, SERIES, one_line, short, svg_of

MARKERS = ("o", "s", "^", "D", "v", "P")
LEVELS = ("--", ":", "-.")
WIDE = 20
"""The ratio of the greatest number to the least from which an axis is logarithmic."""
NAMES = 26
"""Letters of a name that an axis has room for."""


@dataclass(frozen=True)
class Dot:
    """A value with the interval it lies in, where that is known; `x` is where it stands in a `dot_chart`."""

    value: float
    low: float | None = None
    high: float | None = None
    x: float = math.nan


def interval_chart(dots: Mapping[str, Dot], levels: Mapping[str, float], title: str, label: str) -> str:
    """An SVG with a row a dot, its name left of it and its interval through it; each level is a line through all rows.

    The axis is logarithmic where the numbers are positive and far apart. With no dot the chart says that there is nothing.
    """
    shown = {name: dot for name, dot in dots.items() if math.isfinite(dot.value)}

    def draw(axes: Axes) -> None:
        for row, dot in enumerate(shown.values()):
            axes.plot(_ends(dot), (row, row), color=SERIES[0], linewidth=2.2, solid_capstyle="butt")
            axes.plot(dot.value, row, "o", markersize=6, color=SERIES[0])
        _levels(axes, levels, upright=True)
        axes.set_yticks(range(len(shown)), [shortened(name) for name in shown], color=INK)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_ylabel("")
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", linewidth=0.8)
        _log_where_wide(axes, [*_numbers(shown.values()), *levels.values()], "x")

    rows = len(shown)
    return svg_of(draw if shown else None, title, label, "", bool(levels), height=max(1.9, 1.35 + 0.3 * rows))


def dot_chart(
    dots: Mapping[str, Dot], levels: Mapping[str, float], title: str, x_label: str, y_label: str, log_x: bool = True
) -> str:
    """An SVG with each dot at its x, its interval upright through it; each level is a line across.

    Dots without a finite x, or with none above 0 on a logarithmic axis, are left out.
    """
    shown = {
        name: dot
        for name, dot in dots.items()
        if math.isfinite(dot.x) and math.isfinite(dot.value) and (dot.x > 0 or not log_x)
    }

    def draw(axes: Axes) -> None:
        for number, (name, dot) in enumerate(shown.items()):
            colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            axes.plot((dot.x, dot.x), _ends(dot), color=colour, linewidth=1.6)
            axes.plot(dot.x, dot.value, marker, markersize=7, color=colour, label=one_line(name))
        _levels(axes, levels, upright=False)
        _log_where_wide(axes, [*_numbers(shown.values()), *levels.values()], "y")
        if log_x:
            _logarithmic(axes, "x")
        axes.margins(x=0.15)

    return svg_of(draw if shown else None, title, x_label, y_label, True)


def shortened(name: str) -> str:
    """The name on one line, its beginning left out where it is long: of a path the end tells it apart."""
    text = one_line(name)
    return text if len(text) <= NAMES else f"…{text[1 - NAMES :]}"


def _ends(dot: Dot) -> tuple[float, float]:
    return (dot.value if dot.low is None else dot.low, dot.value if dot.high is None else dot.high)


def _numbers(dots: Iterable[Dot]) -> list[float]:
    return [number for dot in dots for number in (dot.value, *_ends(dot))]


def _levels(axes: Axes, levels: Mapping[str, float], upright: bool) -> None:
    line = axes.axvline if upright else axes.axhline
    for number, (name, value) in enumerate(levels.items()):
        line(value, color=MUTED, linewidth=1.3, linestyle=LEVELS[number % len(LEVELS)], label=one_line(name))


def _log_where_wide(axes: Axes, numbers: list[float], which: str) -> None:
    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > WIDE:
        _logarithmic(axes, which)


def _logarithmic(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    few = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12) if high > WIDE / 2 * low else few)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(short))
