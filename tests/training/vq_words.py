"""Runs of an autoencoder small enough to be trained many times in a test."""

from __future__ import annotations

from typing import Any

from small import TRAINING, Runs

CONTENT: dict[str, Any] = {
    "name": "words",
    "seed": 3,
    "data": {"kind": "digits"},
    "trainable": {"kind": "vq", "levels": [4, 4, 4], "width": 8, "depth": 1},
    "training": TRAINING,
}
RUNS = Runs(CONTENT)
recipe, opened, trained = RUNS.recipe, RUNS.opened, RUNS.trained
