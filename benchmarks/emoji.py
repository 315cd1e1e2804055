"""Text to image as a user trains it: emoji from their names, names never seen among them. `make bench-emoji`.

The recipe `emoji` trains for so many minutes at its rate on the idle machine, see benchmarks.lengths, then it is asked for
training captions and for those of held-out pictures; what is measured, benchmarks.prompted says. The judge is our own CLIP, trained
by the recipe `clip-emoji`. Then the same at 64×64, of latents and beside them of pixels, see benchmarks.latents, under "latent".
Stopped, it goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import latents, lengths, prompted
from benchmarks.prompted import Asked, Judges
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from carrara.clip.model import load as load_clip
from carrara.data import Dataset
from carrara.evaluation.clip import Clip
from carrara.evaluation.studies.run import FOLDER
from carrara.training.run import dataset_of

RECIPES: dict[str, list[str]] = {"emoji": ["emoji"]}
SCALES = (1.0, 1.5, 2.0, 3.0, 5.0)
PICTURE = Path("docs/pictures/emoji.png")
LATENT_PICTURE = Path("docs/pictures/emoji-latent.png")
SHOWN = 16
"""Prompts on the picture of each side: first those of training, then held-out ones."""
NOTES = {
    **lengths.NOTES,
    **prompted.NOTES,
    "latent": "the same figures at 64×64 of a model of latents, and under pixels of one of pixels",
    "latent_picture": "the same of the model of latents",
    "picture": "samples under their prompts, none chosen: the first rows training captions, the others held-out ones",
}


def main() -> None:
    """Trains what is not trained, asks, measures, draws, reports."""
    asked = arguments()
    models = lengths.trained(RECIPES, asked.minutes, asked.runs)
    command("train", "clip-emoji", "--out", str(asked.clip))
    clip, dataset = load_clip(asked.clip), dataset_of(models["emoji"].recipe)
    judges = Judges.of(dataset, len(dataset.heldout) if asked.n is None else asked.n, asked.features, clip)
    found = prompted.figures(models["emoji"], judges, SCALES, asked.runs / "emoji" / FOLDER)
    drawing(asked.runs / "emoji", dataset, asked.picture)
    about = {"minutes": asked.minutes, "training": lengths.told(models, asked.runs), "picture": str(asked.picture)}
    report("emoji", {**found, **about, **of_latents(asked, clip, dataset)}, NOTES)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = prompted.parser(__doc__, 30.0, "runs/text-to-image")
    parser.add_argument("--latents", type=float, default=15.0, help="minutes for the two at 64×64; 0 leaves them out")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--latent-picture", type=Path, default=LATENT_PICTURE)
    return parser.parse_args()


def of_latents(asked: argparse.Namespace, clip: Clip, dataset: Dataset) -> dict[str, Any]:
    """The figures of latents beside pixels, where they are asked for; the notes on them are printed first."""
    if not asked.latents:
        return {}
    runs = asked.runs / "latents"
    models = latents.trained(asked.latents, runs)
    found = latents.figures(models, clip, asked.features, runs, asked.n)
    drawing(runs / "latent", dataset, asked.latent_picture)
    for name, note in latents.NOTES.items():
        print(f"latent.{name}: {note}")
    return {
        "latent": {**found, "minutes": asked.latents},
        "latent_picture": str(asked.latent_picture),
    }


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
