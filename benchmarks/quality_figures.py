"""What the rows of `benchmarks.quality` come to: means, ratios, and the picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.rivals.contestants import EQUAL, OURS, RECOMMENDED
from carrara.evaluation.measure import Yardstick

Rows = Sequence[Mapping[str, Any]]

NOTES = {
    "frechet_ratio_best_peer": "our Fréchet distance after the longest time over that of the best peer as recommended",
    "frechet_ratio_equal_parameters": "the same, over the best peer with as many parameters as ours, within 5 %",
    "seeds": "runs behind each mean",
    "means": "mean Fréchet distance over the seeds, by contestant and minutes",
    "rows": "every run: minutes are images divided by the contestant's own rate, that of its best round, measured once",
    "floor": "the Fréchet distance of held-out pictures",
    "ceiling": "the same for uniform noise",
    "n": "pictures behind each distance",
    "reference": "what the pictures are compared with",
    "data": "the pictures; the peers get those below 32 pixels with a black border",
    "rates": "images a second of each mode; the fastest one is trained in. "
    "ddpm_pytorch knows no classes. Peers sample in 30 steps with noise",
}
WORDS = {
    "carrara": "carrara",
    "diffusers": "diffusers, recommended",
    "ddpm_pytorch": "denoising-diffusion-pytorch, recommended",
    "diffusers_equal": "diffusers, equal parameters",
    "ddpm_pytorch_equal": "denoising-diffusion-pytorch, equal parameters",
}
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def figures(rows: Rows, minutes: float) -> dict[str, Any]:
    """Ratios at `minutes`, None while a side of them is missing; means, seeds behind them, and the rows."""
    means = {name: mean_of(rows, name, minutes) for name in (OURS, *RECOMMENDED, *EQUAL)}
    times = sorted({row["minutes"] for row in rows})
    return {
        "frechet_ratio_best_peer": ratio(means[OURS], [means[name] for name in RECOMMENDED]),
        "frechet_ratio_equal_parameters": ratio(means[OURS], [means[name] for name in EQUAL]),
        "seeds": {name: len(distances(rows, name, minutes)) for name in means},
        "means": {name: {f"{time:g}": mean_of(rows, name, time) for time in times} for name in means},
        "rows": list(rows),
    }


def ratio(ours: float | None, theirs: Sequence[float | None]) -> float | None:
    """Ours over the least of theirs; None where ours or any of theirs is not known yet: the best could be the missing one."""
    known = [value for value in theirs if value is not None]
    if ours is None or len(known) < len(theirs):
        return None
    return ours / min(known)


def mean_of(rows: Rows, name: str, minutes: float) -> float | None:
    """The mean distance of a contestant over its seeds, None where there is none."""
    found = distances(rows, name, minutes)
    return statistics.mean(found) if found else None


def distances(rows: Rows, name: str, minutes: float) -> list[float]:
    """A contestant's distances after so many minutes, one for each seed."""
    return [row["frechet"] for row in rows if (row["contestant"], row["minutes"]) == (name, minutes)]


def picture(rows: Rows, measure: Yardstick, data: str) -> Path:
    """Draws Fréchet distance against minutes, each seed a dot and the means a line; the path of the PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 11.0, "axes.edgecolor": "#dddad2"}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(), rows, measure, data)
        path = PICTURES / ("quality-per-minute.png" if data == "fashion" else f"quality-per-minute-{data}.png")
        figure.savefig(path, dpi=150, metadata={"Software": None})
    return path


def draw(axes: Any, rows: Rows, measure: Yardstick, data: str) -> None:
    """The curves, the floor, and the words around them."""
    styles = zip(WORDS.items(), ("#0069a8", "#c8500a", "#00866a", "#c8500a", "#00866a"), strict=True)
    for number, ((name, words), color) in enumerate(styles):
        own = [row for row in rows if row["contestant"] == name]
        times = sorted({row["minutes"] for row in own})
        line = "-" if number < 3 else "--"
        axes.plot(times, [mean_of(own, name, t) for t in times], line, color=color, label=words, linewidth=1.7)
        axes.plot([row["minutes"] for row in own], [row["frechet"] for row in own], "o", color=color, markersize=4)
    axes.axhline(measure.floor, color="#6b6963", linewidth=1, linestyle=":", label="floor: real pictures")
    times = sorted({row["minutes"] for row in rows})
    axes.set(yscale="log", xlabel="minutes of training", ylabel=f"Fréchet distance, n = {measure.n}", xticks=times)
    for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        ticks("{x:.0f}")
    axes.set_yticks([50, 100, 200, 500, 1000], minor=False)
    axes.set_yticks([], minor=True)
    axes.set_title(f"Quality per minute, {data}", loc="left", fontsize=12, fontweight="bold")
    axes.grid(axis="y", linewidth=0.8, color="#dddad2")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
