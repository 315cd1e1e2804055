"""Charts as SVG text, and the measurements of a training run they are drawn from.

A chart is one `<svg>` element without scripts, fonts or links, to be put into a page as it is. Its words are text in the
page's own font. Its colours are CSS variables with a fallback, so that a page with a dark ground can set others:
`--chart-ink`, `--chart-muted`, `--chart-line` and `--chart-1` … `--chart-4`. The same call gives the same text.
"""

from __future__ import annotations

import html
import io
import json
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from carrara.errors import InputError

Points = tuple[Sequence[float], Sequence[float]]
Array = npt.NDArray[np.float64]

# Each colour stands for a CSS variable until the SVG is written. The four of the series differ in lightness as well as
# in hue (after Okabe and Ito, darkened until each has a contrast of 3 : 1 on white), and each has its own dashes.
INK, MUTED, _LINE = "#1f1f1d", "#6b6963", "#dddad2"
SERIES = ("#0069a8", "#c8500a", "#00866a", "#a3428f")
_VARIABLES = {INK: "ink", MUTED: "muted", _LINE: "line"} | {c: str(i) for i, c in enumerate(SERIES, 1)}
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_SIZE = (5.6, 3.3)  # inches of 72 units: about as wide as a phone or half a page, so that letters keep their size
_DRAWN = 800  # points of a series that can be told apart on that width

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "axes.edgecolor": _LINE,
    "grid.color": _LINE,
    "axes.unicode_minus": True,
}
_DRAWING = threading.Lock()  # matplotlib's settings are global to the process

logger = logging.getLogger(__name__)


def line_chart(
    series: Mapping[str, Points], title: str, x_label: str, y_label: str, log_y: bool = False, log_x: bool = False
) -> str:
    """An SVG line chart; each series is a name and its (x values, y values), drawn in the order given.

    NaN and infinities are gaps; so are numbers that are not positive on an axis that is logarithmic (`log_y`, `log_x`). A
    point alone between gaps is drawn as a dot, and a series of thousands of points as the envelope of its extremes. With
    nothing to draw the chart says so. Raises InputError when a series' x and y values differ in number.
    """
    clean = {name: _clean(name, points, log_y, log_x) for name, points in series.items()}
    drawn = {name: points for name, points in clean.items() if np.isfinite(points[1]).any()}

    def draw(axes: Axes) -> None:
        for number, (name, (x, y)) in enumerate(drawn.items()):
            _draw_line(axes, number, name, *_thinned(x, y), among=len(drawn) > 1)
        ys = np.concatenate([y for _, y in drawn.values()])
        _scale_y(axes, ys[np.isfinite(ys)], log_y)
        _scale_x(axes, np.concatenate([x for x, _ in drawn.values()]), log_x)

    return svg_of(draw if drawn else None, title, x_label, y_label, len(drawn) > 1)


def histogram(
    series: Mapping[str, Sequence[float]], title: str, x_label: str, bins: int = 40, y_label: str = "share, %"
) -> str:
    """An SVG of several samples' histograms over the same bins, each a share of its own sample, its median marked.

    The legend tells each sample's number and median. NaN and infinities are left out. With nothing to draw the chart says
    so. Raises InputError when `bins` is below 1.
    """
    if bins < 1:
        raise InputError(f"bins = {bins} is not possible: give 1 or more")
    values = {name: _finite(numbers) for name, numbers in series.items()}
    drawn = {name: numbers for name, numbers in values.items() if len(numbers)}

    def draw(axes: Axes) -> None:
        edges = np.histogram_bin_edges(np.concatenate(list(drawn.values())), bins)
        for number, (name, numbers) in enumerate(drawn.items()):
            _draw_steps(axes, number, name, numbers, edges)
        axes.set_ylim(bottom=0)

    return svg_of(draw if drawn else None, title, x_label, y_label, bool(drawn))


# --- the measurements of a run ---------------------------------------------------------------------------------------


def read_metrics(path: str | os.PathLike[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Each measured name and its (images seen, values), from a file of one JSON object a line with the key "images".

    A key may be missing from a line. A half-written line is left out, with a warning in the log, as a run may be writing it
    at this moment; null is read as NaN, values that are no numbers are left out. Raises InputError when there is no such
    file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"the measurements {os.fspath(path)!r} cannot be read: {error.strerror}") from error
    metrics: dict[str, tuple[list[float], list[float]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        record = _record(line)
        if record is None:
            logger.warning("%s: line %d is not a whole record and is left out", path, number)
            continue
        images = record.pop("images")
        for name, value in record.items():
            xs, ys = metrics.setdefault(name, ([], []))
            xs.append(images)
            ys.append(value)
    return metrics


def loss_charts(metrics: Mapping[str, Points]) -> dict[str, str]:
    """The charts every training report shows, by name: loss, lr, images_per_s, grad_norm; as SVG.

    `metrics` is what `read_metrics` gives. The loss is always there; a chart of anything else only if it was measured.
    """
    names = {"loss": "training", "heldout_loss": "held out", "heldout_loss_ema": "held out, EMA"}
    losses = {words: metrics[name] for name, words in names.items() if name in metrics}
    charts = {"loss": _run_chart(losses, "Loss", "loss")}
    for name, title, unit in (
        ("lr", "Learning rate", "learning rate"),
        ("images_per_s", "Throughput", "images per second"),
        ("grad_norm", "Gradient norm", "norm"),
    ):
        if name in metrics:
            charts[name] = _run_chart({title: metrics[name]}, title, unit, log=name == "grad_norm")
    return charts


def _run_chart(series: Mapping[str, Points], title: str, y_label: str, log: bool = True) -> str:
    ys = _finite([y for _, values in series.values() for y in values])
    wide = bool(len(ys)) and ys.min() > 0 and ys.max() / ys.min() > 5
    return line_chart(series, title, "images seen", y_label, log_y=log and wide)


def _record(line: str) -> dict[str, float] | None:
    """A line's numbers, or None for a line that was not written whole."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not _is_number(record.get("images")):
        return None
    numbers = {str(key): np.nan if value is None else value for key, value in record.items()}
    return {key: float(value) for key, value in numbers.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- numbers -------------------------------------------------------------------------------------------------------


def _clean(name: str, points: Points, log_y: bool, log_x: bool) -> tuple[Array, Array]:
    x, y = (np.asarray(values, dtype=np.float64) for values in points)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(
            f"the series {name!r} has x values of shape {x.shape} and y values of {y.shape}: give as many"
        )
    seen = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log_y)) & ((x > 0) | (not log_x))
    return np.where(seen, x, np.nan), np.where(seen, y, np.nan)


def _finite(values: Iterable[float]) -> Array:
    numbers = np.asarray(list(values), dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """No more points than can be seen, with every bucket's lowest and highest kept: a spike stays a spike."""
    if len(x) <= _DRAWN:
        return x, y
    kept: set[int] = {0, len(x) - 1}
    for bucket in np.array_split(np.arange(len(x)), _DRAWN // 2):
        seen = bucket[np.isfinite(y[bucket])]
        kept |= {int(seen[y[seen].argmin()]), int(seen[y[seen].argmax()])} if len(seen) else {int(bucket[0])}
    chosen = sorted(kept)
    return x[chosen], y[chosen]


def _lonely(y: Array) -> list[int]:
    """The points without a neighbour, which a line would not show."""
    seen = np.concatenate([[False], np.isfinite(y), [False]])
    return [int(i) for i in np.flatnonzero(seen[1:-1] & ~seen[:-2] & ~seen[2:])]


def short(value: float, _position: object = None) -> str:
    """A tick's number: 3e−4, 0.002, 12, 40k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}".replace("-", "−")
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


# --- drawing -------------------------------------------------------------------------------------------------------


def _dashes(number: int) -> Any:
    """Each series' own; where the colours begin again, they meet other dashes."""
    return _DASHES[(number + number // len(SERIES)) % len(_DASHES)]


def _draw_line(axes: Axes, number: int, name: str, x: Array, y: Array, among: bool) -> None:
    dense = len(x) >= 100
    axes.plot(
        x,
        y,
        label=one_line(name),
        color=SERIES[number % len(SERIES)],
        linestyle=_dashes(number),
        linewidth=1.1 if dense else 1.7,
        alpha=0.65 if dense and among else 1.0,  # the noise of one curve must not hide the others
    )
    alone = _lonely(y)
    axes.plot(x[alone], y[alone], "o", markersize=4, color=SERIES[number % len(SERIES)])


def _draw_steps(axes: Axes, number: int, name: str, values: Array, edges: Array) -> None:
    color = SERIES[number % len(SERIES)]
    shares = 100 * np.histogram(values, edges)[0] / len(values)
    median = float(np.median(values))
    label = f"{one_line(name)}: n = {len(values):,}, median {median:.3g}"
    axes.stairs(shares, edges, fill=True, color=color, alpha=0.15, linewidth=0)
    axes.stairs(shares, edges, color=color, linewidth=1.5, linestyle=_dashes(number))
    axes.plot([], [], color=color, linewidth=1.5, linestyle=_dashes(number), label=label)
    axes.axvline(median, color=color, linewidth=1, ymax=0.06)


def _scale_y(axes: Axes, ys: Array, log_y: bool) -> None:
    if not log_y:
        return
    axes.set_yscale("log")
    span = ys.max() / ys.min()
    if span > 8:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 300 else (1.0,), numticks=12))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short))


def _scale_x(axes: Axes, xs: Array, log_x: bool) -> None:
    """A logarithmic axis of few values is marked at these."""
    if not log_x:
        return
    axes.set_xscale("log")
    values = np.unique(xs[np.isfinite(xs)])
    axes.xaxis.set_major_locator(FixedLocator(values.tolist()) if len(values) <= 8 else LogLocator(numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(short))


def svg_of(
    draw: Callable[[Axes], None] | None,
    title: str,
    x_label: str,
    y_label: str,
    legend: bool,
    height: float = _SIZE[1],
) -> str:
    """The SVG of a chart whose curves `draw` adds to empty axes; without it the axes say that there is nothing.

    `height` is in inches of 72 units; the width is always the same.
    """
    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's fonts draw the letters, so it does not matter which of them matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": title})
        figure = Figure(figsize=(_SIZE[0], height), facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        _lay_out(axes, x_label, y_label)
        (draw or _say_nothing)(axes)
        _head(figure, title, axes.get_legend_handles_labels() if legend else ([], []))
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _inline(buffer.getvalue().decode(), title)


def _lay_out(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(one_line(x_label))
    axes.set_ylabel(one_line(y_label))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(short))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _say_nothing(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "nothing measured", ha="center", color=MUTED, transform=axes.transAxes)


def _head(figure: Figure, title: str, legend: tuple[list[Any], list[Any]]) -> None:
    """The title and below it the series' names, side by side where they fit; the axes get the height that is left."""
    handles, labels = legend
    columns = _legend_columns(labels)
    height = 72 * figure.get_figheight()
    title_height = 22 / height
    rows = math.ceil(len(labels) / columns)
    figure.text(0, 1 - 3 / height, one_line(title), va="top", fontsize=12, fontweight="bold")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - title_height - rows * 16 / height))
    if labels:
        box = figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(0, 1 - title_height),
            ncols=columns,
            frameon=False,
            borderaxespad=0,
            borderpad=0.1,
            handlelength=2,
            handletextpad=0.6,
            columnspacing=1.5,
            labelspacing=0.3,
            fontsize=10,
        )
        box.set_in_layout(False)


def _legend_columns(labels: Sequence[str]) -> int:
    """All names in one row where they fit, more than four in as many columns as fit, a few long ones one below the other."""
    if sum(len(label) + 7 for label in labels) < 62:
        return max(1, len(labels))
    return max(1, 62 // (max(map(len, labels)) + 7)) if len(labels) > 4 else 1


def one_line(text: str) -> str:
    """The text as one line of characters that XML allows and without the underscore that hides a name from legends."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(kept.split()).lstrip("_") or "unnamed"


def _inline(svg: str, title: str) -> str:
    """The `<svg>` element alone: it brings no rules for the page around it, and its names are not the page's names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"font: (?:(bold) )?([\d.]+px) [^;\"]*", r"font: \1 \2 inherit", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--chart-{variable}, {colour})")
    name = html.escape(one_line(title))
    head = f'<svg role="img" aria-label="{name}" stroke-linejoin="round" class="chart"'
    return svg.replace("<svg", head, 1).rstrip()
