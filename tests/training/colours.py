"""Plain pictures in three colours that are told in letters, and runs on them."""

from __future__ import annotations

import numpy as np
from small import CONTENT, Runs

from carrara.data import Dataset, Split

SHADES = {"black": 0, "grey": 110, "white": 255, "": 60}


def colours() -> Dataset:
    """32 pictures, each under its shade's name; one shade has none."""
    names = [*SHADES] * 8
    media = np.stack([np.full((1, 8, 8), SHADES[name], np.uint8) for name in names])
    split = Split(media, np.zeros(len(names), np.int64), tuple(names))
    return Dataset("colours", (), split, split, "c" * 64, "none", "made here")


trained = Runs(
    {
        **CONTENT,
        "data": {"kind": "colours:colours"},
        "condition": {"kind": "text", "encoder": "bytes", "length": 6, "dropout": 0.3},
    }
).trained
