"""Who should read the captions? One generator over three readers, FID against CLIP score: `make bench-encoders`.

As in Imagen's study of text encoders: the same U-Net is told a caption's bytes, which it learns to read, what a frozen MiniLM makes
of its words, or only the class of the picture. Each trains for as many minutes at its own rate on the idle machine, see
benchmarks.lengths, and is asked for the captions of held-out pictures, or their classes, while guidance grows. Stopped, it goes on.

Source: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, Saharia et al., 2022, figure 4a.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import lengths, prompted
from benchmarks.prompted import Asked, Judges
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from carrara import files
from carrara.clip.model import load as load_clip
from carrara.evaluation.charts import line_chart
from carrara.evaluation.studies.run import FOLDER
from carrara.model import Model
from carrara.training.run import dataset_of

RECIPES: dict[str, list[str]] = {
    "bytes": ["emoji", "--set", "condition.encoder=bytes", "--set", "condition.length=48"],
    "minilm": ["emoji"],
    "classes": ["emoji-classes", "--set", "training.optimiser=muon", "--set", "training.lr=0.004"],
}
SCALES = (1.0, 1.5, 3.0, 5.0)
CHART = Path("docs/pictures/encoders.svg")
NOTES = {
    **lengths.NOTES,
    **{
        name: prompted.NOTES[name]
        for name in ("floor", "ceiling", "n", "reference", "features", "clip", "clip_sha256")
    },
    "encoders": "by reader, at each scale of guidance: fid, clip_rank and clip_score of samples for held-out captions",
    "best": "by reader, the least distance and the best rank of its curve",
    "real": "clip_rank and clip_score of the held-out pictures under their own captions",
    "clip_rank_chance": prompted.NOTES["clip_rank_chance"],
}
Curves = Mapping[str, Sequence[Mapping[str, Any]]]


def main() -> None:
    """Trains what is not trained, samples, measures, draws, reports."""
    asked = arguments()
    models = lengths.trained(RECIPES, asked.minutes, asked.runs)
    command("train", "clip-emoji", "--out", str(asked.clip))
    dataset = dataset_of(models["minilm"].recipe)
    n = len(dataset.heldout) if asked.n is None else asked.n
    judges = Judges.of(dataset, n, asked.features, load_clip(asked.clip))
    found = measured(models, judges, SCALES, asked.runs)
    files.write(asked.chart, chart(found["encoders"], found["real"], found["floor"]).encode())
    report("encoders", {**found, "minutes": asked.minutes, "training": lengths.told(models, asked.runs)}, NOTES)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = prompted.parser(__doc__, 6.0, "runs/encoders")
    parser.add_argument("--chart", type=Path, default=CHART)
    return parser.parse_args()


def measured(models: Mapping[str, Model], judges: Judges, scales: Sequence[float], runs: Path) -> dict[str, Any]:
    """The curve of each model, and what they are read against."""
    asked = Asked.of(judges.dataset.heldout, judges.measure.n)
    curves = {
        name: prompted.curve(model, asked, judges, scales, runs / name / FOLDER) for name, model in models.items()
    }
    real = judges.rank(asked.real, asked)
    return {
        "best": {name: best(points) for name, points in curves.items()},
        "encoders": curves,
        "real": {"clip_rank": real.above_floor, "clip_score": real.value},
        "clip_rank_chance": prompted.CHANCE,
        **judges.scale(),
    }


def best(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The ends of the bargain: the least distance, and the best rank."""
    return {
        "fid": min(point["fid"] for point in points),
        "clip_rank": max(point["clip_rank"] for point in points),
    }


def chart(curves: Curves, real: Mapping[str, float], floor: float) -> str:
    """An SVG: a line for each reader, a point for each scale of guidance, and the real pictures."""
    lines = {
        name: ([point["clip_score"] for point in points], [point["fid"] for point in points])
        for name, points in curves.items()
    }
    lines["held-out pictures"] = ([real["clip_score"]], [floor])
    return line_chart(lines, "Quality against what is shown, as guidance grows", "CLIP score", "Fréchet distance")


if __name__ == "__main__":
    main()
