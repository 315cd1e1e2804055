"""Plain pictures in three colours that are told in letters, and runs on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from small import CONTENT, stepped

from carrara.data import Dataset, Split
from carrara.recipe import changed, check
from carrara.training.budget import Asked
from carrara.training.run import Run

SHADES = {"black": 0, "grey": 110, "white": 255, "": 60}


def colours() -> Dataset:
    """32 pictures, each under its shade's name; one shade has none."""
    names = [*SHADES] * 8
    media = np.stack([np.full((1, 8, 8), SHADES[name], np.uint8) for name in names])
    split = Split(media, np.zeros(len(names), np.int64), tuple(names))
    return Dataset("colours", (), split, split, "c" * 64, "none", "made here")


def trained(folder: Path, images: int, changes: Sequence[str]) -> Run:
    """The run, to its end."""
    condition = {"kind": "text", "encoder": "bytes", "length": 6, "dropout": 0.3}
    content = {**CONTENT, "data": {"kind": "colours:colours"}, "condition": condition}
    return stepped(Run(check(changed(content, changes)), folder, Asked(images=images)))
