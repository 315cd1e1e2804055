"""Runs of a contestant: so many images, stopped and gone on with at any moment, snapshots and samples kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.rivals.pictures import cropped, labels_in_turn, training_batch
from benchmarks.rivals.rival import Rival
from carrara import files
from carrara.data import Dataset
from carrara.rng import derive
from carrara.training.learner import seeded

STATE = "state.pt"
CHUNK = 100
EVERY_S = 60.0


def trained(
    rival: Rival,
    dataset: Dataset,
    seed: int,
    snapshots: Sequence[int],
    folder: Path,
    tell: Callable[[str], None] = print,
    every_s: float = EVERY_S,
) -> None:
    """Trains to the last of `snapshots` (images, whole batches), the averaged weights kept in the folder at each.

    What was done before is gone on with: batches, times and noise are functions of the seed and of the images seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / STATE).is_file():
        rival.put_state(folder / STATE)
    saved = time.monotonic()
    while rival.images < max(snapshots):
        with seeded(derive(seed, rival.images)):
            loss = rival.train_step(*training_batch(dataset, seed, rival.images, rival.batch))
        if rival.images in snapshots:
            rival.save_average(average_of(folder, rival.images))
        if rival.images == max(snapshots) or time.monotonic() - saved > every_s:
            files.write(folder / STATE, rival.state())
            saved = time.monotonic()
            tell(f"{folder.name}: {rival.images} of {max(snapshots)} images, loss {loss:.4f}")


def average_of(folder: Path, images: int) -> Path:
    """Where the averaged weights after so many images are kept."""
    return folder / f"average-{images:08d}.pt"


def in_chunks(
    n: int, folder: Path, made: Callable[[int, int], Tensor], tell: Callable[[str], None] = print
) -> Tensor:
    """n samples uint8, by the hundred: what the folder has is read, what is missing is `made(start, count)` and kept."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, n, CHUNK):
        path = folder / f"{start:06d}-{min(CHUNK, n - start):03d}.npy"
        if not path.is_file():
            staging = path.with_suffix(".tmp.npy")
            np.save(staging, made(start, min(CHUNK, n - start)).numpy())
            staging.replace(path)
            tell(f"{folder.parent.name}/{folder.name}: {min(start + CHUNK, n)} of {n} samples")
        parts.append(torch.from_numpy(np.load(path)))
    return torch.cat(parts)


def sampled(rival: Rival, dataset: Dataset, average: Path, n: int, folder: Path) -> Tensor:
    """n samples uint8 of the dataset's shape from averaged weights in a file, the classes in turn."""
    rival.put_average(average)
    _, height, width = dataset.shape

    def made(start: int, count: int) -> Tensor:
        labels = labels_in_turn(dataset, start, count)
        parts = [
            rival.sample(len(part), part, derive(start, i)) for i, part in enumerate(torch.split(labels, CHUNK // 2))
        ]
        return cropped(torch.cat(parts), height, width)

    return in_chunks(n, folder, made)
