"""Runs of an autoencoder of latents small enough to be trained many times in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from small import BATCH, stepped

from carrara.recipe import Recipe, changed, check
from carrara.training.budget import Asked
from carrara.training.run import Run

CONTENT: dict[str, Any] = {
    "name": "latents",
    "seed": 3,
    "data": {"kind": "digits"},
    "trainable": {"kind": "kl", "channels": 4, "down": 2, "width": 8, "depth": 1},
    "training": {
        "batch": BATCH,
        "warmup_images": 64,
        "previews": 2,
        "checkpoint_s": 0,
        "precision": "float32",
        "kernels": "native",
        "keep": 3,
    },
}


def recipe(*changes: str) -> Recipe:
    return check(changed(CONTENT, changes))


def opened(folder: Path, images: int = 160, changes: Sequence[str] = ()) -> Run:
    return Run(recipe(*changes), folder, Asked(images=images))


def trained(folder: Path, images: int = 160, changes: Sequence[str] = (), steps: int | None = None) -> Run:
    """A run after so many steps, its generator closed as by a process that ends; None: to its end."""
    return stepped(opened(folder, images, changes), steps)
