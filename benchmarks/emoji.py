"""Text to image as a user trains it: emoji from their names, names never seen among them. `make bench-emoji`.

The recipe `emoji` trains for so many minutes at its rate on the idle machine, see benchmarks.lengths, then it is asked for
training captions and for those of held-out pictures; what is measured, benchmarks.prompted says. The judge is our own CLIP, trained
by the recipe `clip-emoji`. Stopped, it goes on; `--latent` adds the same figures of another run, under "latent".
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import carrara
from benchmarks import lengths, prompted
from benchmarks.prompted import Asked, Judges
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from carrara.clip.model import load as load_clip
from carrara.data import Dataset
from carrara.evaluation.studies.run import FOLDER
from carrara.model import Model
from carrara.training.run import dataset_of

RECIPES: dict[str, list[str]] = {"emoji": ["emoji"]}
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0)
PICTURE = Path("docs/pictures/emoji.png")
SHOWN = 16
"""Prompts on the picture of each side: first those of training, then held-out ones."""
NOTES = {
    **lengths.NOTES,
    **prompted.NOTES,
    "latent": "the same figures of a model of latents",
    "picture": "samples under their prompts, none chosen: the first rows training captions, the others held-out ones",
}


def main() -> None:
    """Trains what is not trained, asks, measures, draws, reports."""
    asked = arguments()
    models = lengths.trained(RECIPES, asked.minutes, asked.runs)
    command("train", "clip-emoji", "--out", str(asked.clip))
    dataset = dataset_of(models["emoji"].recipe)
    n = len(dataset.heldout) if asked.n is None else asked.n
    judges = Judges.of(dataset, n, asked.features, load_clip(asked.clip))
    found = measured(models["emoji"], judges, asked.runs / "emoji", asked.latent)
    drawing(asked.runs / "emoji", dataset, asked.picture)
    about = {"minutes": asked.minutes, "training": lengths.told(models, asked.runs), "picture": str(asked.picture)}
    report("emoji", {**found, **about}, NOTES)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = prompted.parser(__doc__, 30.0, "runs/text-to-image")
    parser.add_argument("--latent", type=Path, help="the run of a model of latents, told the same captions")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    return parser.parse_args()


def measured(model: Model, judges: Judges, run: Path, latent: Path | None = None) -> dict[str, Any]:
    """The figures of the model of a run, and beside them, where there is one, of another."""
    found = prompted.figures(model, judges, SCALES, run / FOLDER)
    if latent is None:
        return found
    other = carrara.load(latent)
    return {**found, "latent": {**prompted.figures(other, judges, SCALES, latent / FOLDER), **prompted.facts(other)}}


def drawing(run: Path, dataset: Dataset, picture: Path) -> None:
    """Writes the picture: samples for captions of training and for held-out ones, by `carrara sample` with seeds from 0 on."""
    shown = min(SHOWN, len(dataset.heldout))
    lines = [caption for split in (dataset.train, dataset.heldout) for caption in Asked.of(split, shown).captions]
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder, "prompts.txt")
        prompts.write_text("\n".join(lines), encoding="utf-8")
        command("sample", str(run), "--prompts", str(prompts), "--out", str(picture), "--overwrite")


if __name__ == "__main__":
    main()
