"""What the measurements take: uint8 pictures, in one fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.data.batches import order
from carrara.errors import InputError

Progress = Callable[[int, int], None]
"""Called with (done, total), in pictures unless the function says otherwise."""


def checked_images(images: Tensor, what: str = "images") -> Tensor:
    """The same tensor, on the CPU, once it is uint8 (B, C, H, W) with no empty side; otherwise InputError."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(
            f"{what} must be a uint8 tensor with values 0 to 255; got {given}. "
            "Decode samples with the model's codec before measuring them."
        )
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise InputError(f"{what} must have the shape (B, C, H, W); got {tuple(images.shape)}.")
    return images.cpu()


def checked_samples(samples: Tensor, shape: tuple[int, ...], at_least: int = 1) -> Tensor:
    """Samples of a dataset's own shape (C, H, W), `at_least` of them; otherwise InputError."""
    samples = checked_images(samples, "samples")
    if tuple(samples.shape[1:]) != tuple(shape):
        raise InputError(
            f"samples of shape {tuple(samples.shape[1:])} cannot be compared with pictures of shape {tuple(shape)}: "
            "measure a model on the dataset, and at the size, it was trained on."
        )
    if len(samples) < at_least:
        raise InputError(f"at least {at_least} samples are needed; got {len(samples)}.")
    return samples


def gathered(media: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> Tensor:
    """A copy of some rows of a split's media as a uint8 tensor (B, C, H, W)."""
    return torch.from_numpy(np.array(media[rows], subok=False))


def shuffled(n: int, limit: int | None = None) -> npt.NDArray[np.int64]:
    """The first `limit` of the indices 0 to n − 1 in a shuffled order that never changes; InputError when below 1."""
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} pictures leaves none: give 1 or more, or None for all of them.")
    return order(n, 0, 0, n if limit is None else min(n, limit))


def batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """The images, `size` at a time."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


@dataclass
class Counter:
    """Reports the sum of many small steps to a progress callback."""

    total: int
    progress: Progress | None
    done: int = 0

    def advance(self, steps: int) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(self.done, self.total)
