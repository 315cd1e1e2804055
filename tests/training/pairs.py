"""Captioned pictures that a small CLIP learns in a moment: one colour above another, in a few shades; and runs on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from small import Runs

from carrara.data.dataset import Dataset, Split

COLOURS = {
    "black": (0, 0, 0), "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0),
    "pink": (255, 0, 255), "cyan": (0, 255, 255), "white": (255, 255, 255),
}  # fmt: skip
SHADES = 3
BATCH = 16
CONTENT: dict[str, Any] = {
    "name": "pairs",
    "seed": 3,
    "data": {"kind": "pairs:pairs"},
    "trainable": {"kind": "clip", "image": "pixels", "text": "words", "dim": 16, "dropout": 0.2, "noise": 0.1},
    "training": {
        "batch": BATCH,
        "warmup_images": 64,
        "previews": 2,
        "checkpoint_s": 0,
        "precision": "float32",
        "kernels": "torch",
        "keep": 3,
    },
}
RUNS = Runs(CONTENT)
recipe, opened, trained = RUNS.recipe, RUNS.opened, RUNS.trained


def pairs(captioned: bool = True) -> Dataset:
    """8 × 8 pairs of colours in three shades, uint8 (N, 3, 8, 8); every seventh pair of colours is held out."""
    sides: dict[bool, list[tuple[np.ndarray, str]]] = {True: [], False: []}
    names = list(COLOURS)
    for number, (above, below) in enumerate((a, b) for a in names for b in names):
        for shade in range(SHADES):
            picture = np.empty((3, 8, 8), np.uint8)
            for half, name in ((slice(0, 4), above), (slice(4, 8), below)):
                picture[:, half] = np.array(COLOURS[name], np.uint8)[:, None, None] // (shade + 1)
            sides[number % 7 == 3].append((picture, f"{above} above {below}"))
    train, heldout = (split(sides[side], captioned) for side in (False, True))
    print_ = hashlib.sha256(train.media.tobytes() + heldout.media.tobytes()).hexdigest()
    return Dataset("pairs", (), train, heldout, print_, "none", "made for a test")


def split(found: Sequence[tuple[np.ndarray, str]], captioned: bool) -> Split:
    media, captions = zip(*found, strict=True)
    return Split(np.stack(media), np.zeros(len(media), np.int64), tuple(captions) if captioned else None)
