"""Texts as vectors, and runs of them small enough to be trained many times in a test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from small import TRAINING, Runs

from carrara.data import Dataset, Split
from carrara.data.documents import Documents

LENGTH, WIDTH = 8, 4
CONTENT: dict[str, Any] = {
    "name": "vectors",
    "seed": 3,
    "data": {"kind": "embedded_texts:lines"},
    "codec": {
        "kind": "embedding",
        "codec": {"kind": "characters", "length": LENGTH, "layout": "rows", "least": 1},
        "width": WIDTH,
    },
    "condition": {"kind": "none"},
    "network": {"kind": "vectors", "width": 16, "head_width": 8, "depth": 1, "dropout": 0.1},
    "process": {"kind": "embedded"},
    "prediction": {"kind": "x0"},
    "weight": {"kind": "x0"},
    "train_times": {"kind": "log_normal", "mean": 0.0, "std": 1.0},
    "training": TRAINING,
    "sampling": {"sampler": "ancestral", "steps": 3},
}
RUNS = Runs(CONTENT)
recipe, opened, trained = RUNS.recipe, RUNS.opened, RUNS.trained
WORDS = ("abba", "cab", "bacca", "deed", "fade", "bead", "cafe", "dad")


def lines() -> Dataset:
    """Two words after each other, a window each; every fifth is held out."""
    texts = [f"{one} {other}"[:LENGTH] for one in WORDS for other in WORDS]
    train, heldout = ([text for i, text in enumerate(texts) if (i % 5 == 4) is side] for side in (False, True))
    print_ = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Dataset("lines", (), split(train), split(heldout), print_, "none", "made for a test")


def split(texts: Sequence[str]) -> Split:
    return Split(Documents.of(list(texts)), np.zeros(len(texts), np.int64))
