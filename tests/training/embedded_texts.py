"""Texts as vectors, and runs of them small enough to be trained many times in a test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small import BATCH, stepped

from carrara.data import Dataset, Split
from carrara.data.documents import Documents
from carrara.recipe import Recipe, changed, check
from carrara.training.budget import Asked
from carrara.training.run import Run

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
    "training": {
        "batch": BATCH,
        "warmup_images": 64,
        "previews": 2,
        "checkpoint_s": 0,
        "precision": "float32",
        "kernels": "native",
        "keep": 3,
    },
    "sampling": {"sampler": "ancestral", "steps": 3},
}
WORDS = ("abba", "cab", "bacca", "deed", "fade", "bead", "cafe", "dad")


def lines() -> Dataset:
    """Two words after each other, a window each; every fifth is held out."""
    texts = [f"{one} {other}"[:LENGTH] for one in WORDS for other in WORDS]
    train, heldout = ([text for i, text in enumerate(texts) if (i % 5 == 4) is side] for side in (False, True))
    print_ = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Dataset("lines", (), split(train), split(heldout), print_, "none", "made for a test")


def split(texts: Sequence[str]) -> Split:
    return Split(Documents.of(list(texts)), np.zeros(len(texts), np.int64))


def recipe(*changes: str) -> Recipe:
    return check(changed(CONTENT, changes))


def opened(folder: Path, images: int = 160, changes: Sequence[str] = ()) -> Run:
    return Run(recipe(*changes), folder, Asked(images=images))


def trained(folder: Path, images: int = 160, changes: Sequence[str] = (), steps: int | None = None) -> Run:
    """A run after so many steps, its generator closed as by a process that ends; None: to its end."""
    return stepped(opened(folder, images, changes), steps)
