"""Pictures as rivals take them: 32×32 pixels, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rivals.rival import SIZE
from carrara.data import Dataset
from carrara.data.batches import batch, order
from carrara.errors import InputError
from carrara.rng import Streams


def padded(images: Tensor) -> Tensor:
    """uint8 (B, C, 32, 32): smaller pictures (B, C, H, W) with a black border, as wide on all sides as can be."""
    height, width = images.shape[-2:]
    if max(height, width) > SIZE:
        raise InputError(f"pictures of {height}×{width} pixels do not fit into {SIZE}×{SIZE}; choose smaller ones")
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    return F.pad(images, (left, SIZE - width - left, top, SIZE - height - top))


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """(B, C, height, width), what `padded` put a border around."""
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    return images[..., top : top + height, left : left + width]


def training_batch(dataset: Dataset, seed: int, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (count, C, 32, 32) and labels of a run's images number start … start + count − 1.

    Order and flips are those of a carrara run with this seed.
    """
    flips = Streams.of_run(seed, start, count).uniform().numpy() < 0.5 if dataset.flip else None
    found = batch(dataset.train, order(len(dataset.train), seed, start, count), flips)
    return padded(found["media"]), found["label"]


def labels_in_turn(dataset: Dataset, start: int, count: int) -> Tensor:
    """The classes of samples number start … start + count − 1, int64: each in its turn, all 0 where there are none."""
    return torch.from_numpy(np.arange(start, start + count) % max(1, len(dataset.classes)))
