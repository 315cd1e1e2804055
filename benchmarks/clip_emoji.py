"""The small CLIP of emoji, trained as a user trains it and asked about emoji that it has never seen: `make bench-clip-emoji`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.recipes import carrara as command
from benchmarks.result import report
from carrara.clip.model import load
from carrara.clip.report import compared
from carrara.clip.retrieval import AT, figures
from carrara.training.run import dataset_of

RUN = Path("runs/clip-emoji")

NOTES = {
    "heldout_true_above_shuffled": "share of held-out emoji that fit their own name better than another's, by a fixed derangement",
    "heldout_true_above_others": "the same, the mean over the names of all others",
    **{f"recall_at_{k}": f"share of held-out names whose own picture is among the {k} nearest" for k in AT},
    **{
        f"recall_at_{k}_of_pictures": f"share of held-out pictures whose own name is among the {k} nearest"
        for k in AT
    },
    **{f"chance_at_{k}": "the same where nothing is known" for k in AT},
    "n": "held-out emoji, which are all among whom one is to be found",
    "training_pairs": "pairs of a picture and its name that were seen in training",
    "training_seconds": "seconds of training, previews and checkpoints included",
    "seconds": "seconds of the command, imports, the encoders' features and the report included",
}


def main() -> None:
    """Trains it where it is not trained, asks it, reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RUN, help="the run folder")
    run = parser.parse_args().out
    seconds = command("train", "clip-emoji", "--out", str(run))
    clip = load(run)
    rows, similarity = compared(clip, dataset_of(clip.recipe))
    found, count = figures(similarity), len(rows)
    above = {f"heldout_{name}": found[name] for name in ("true_above_shuffled", "true_above_others")}
    of_texts = {f"recall_at_{k}": found[f"text_to_image_at_{k}"] for k in AT}
    of_pictures = {f"recall_at_{k}_of_pictures": found[f"image_to_text_at_{k}"] for k in AT}
    chance = {f"chance_at_{k}": k / count for k in AT}
    made = {
        "n": count,
        "training_pairs": clip.facts["training_images_seen"],
        "training_seconds": clip.facts["training_seconds"],
        "seconds": round(seconds, 1),
        "clip": clip.name,
        "clip_sha256": clip.sha256,
    }
    report("clip_emoji", {**above, **of_texts, **of_pictures, **chance, **made}, NOTES)


if __name__ == "__main__":
    main()
