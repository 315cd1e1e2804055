"""What the command line does with a recipe, timed as a user meets it: whole commands in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from carrara import files

NOTES = {
    "class_read_rate": "share of samples that a classifier reads as the class asked for",
    "classifier_accuracy": "the same classifier on held-out real pictures",
    "frechet": "Fréchet distance of the samples to the training pictures",
    "floor": "the same for held-out pictures, at the same n",
    "ceiling": "the same for uniform noise",
    "n": "pictures behind the three Fréchet distances",
    "features": "the network whose features are compared",
    "reference": "what the pictures are compared with",
    "samples": "pictures behind the read rate and the nearest neighbours",
    "copies": "samples that equal a training picture in every pixel",
    "nearest_median": "median distance of a sample to its nearest training picture, grey levels (root mean square)",
    "nearest_median_heldout": "the same for held-out pictures",
    "training_images": "images seen in training",
    "training_seconds": "seconds of training, previews and checkpoints included",
    "sampling_seconds": "seconds for the samples",
    "seconds": "seconds of the commands together, imports included, installation not",
}


def carrara(*words: str) -> float:
    """Runs one command and returns its seconds. Raises CalledProcessError where it fails."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "carrara", *words], check=True)
    return time.monotonic() - start


def figures_of(run: Path) -> dict[str, Any]:
    """The newest evaluation of a run, flat."""
    newest = files.read_json(run / "figures.json")[-1]
    frechet, read, near = newest["frechet"], newest["classes"], newest["neighbours"]
    facts = files.read_json(run / "model" / "model.json")["facts"]
    return {
        "class_read_rate": read["rate"],
        "classifier_accuracy": read["accuracy"],
        **{key: frechet[key] for key in ("floor", "ceiling", "n", "features", "reference")},
        "frechet": frechet["value"],
        "samples": read["n"],
        "copies": near["copies"],
        "nearest_median": near["median"],
        "nearest_median_heldout": near["heldout_median"],
        "training_images": facts["training_images_seen"],
        "training_seconds": facts["training_seconds"],
        "sampling_seconds": newest["sampling_s"],
    }
