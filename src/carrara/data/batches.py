"""The order pictures are seen in, as a pure function of seed and counter, and their batches as tensors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from carrara.data.dataset import Split
from carrara.data.documents import Documents
from carrara.errors import InputError


def order(n: int, seed: int, start: int, count: int) -> npt.NDArray[np.int64]:
    """The dataset indices, int64 (count,) in 0..n-1, of the pictures seen as number start, start + 1, ...

    Picture number c belongs to epoch c // n, and each epoch is a permutation drawn from (seed, epoch) alone: a run
    that resumes at any picture goes on exactly as if it had never stopped. Raises InputError on a negative seed,
    start or count, or n < 1.
    """
    if n < 1 or min(seed, start, count) < 0:
        raise InputError(
            f"order(n={n}, seed={seed}, start={start}, count={count}): n must be at least 1, the others at least 0."
        )
    end = start + count
    parts = [
        _permutation(n, seed, epoch)[max(start - epoch * n, 0) : end - epoch * n]
        for epoch in range(start // n, -(-end // n))
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


# Successive batches ask for the same epoch, or for its last pictures and the next one's first.
@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    # numpy promises a bit generator's raw stream for ever, but may change what Generator.permutation makes of it.
    raw = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(n)
    permutation = np.argsort(np.asarray(raw), kind="stable").astype(np.int64)
    permutation.flags.writeable = False
    return permutation


def batch(split: Split, indices: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """media: uint8 tensor (B, C, H, W) or list of B texts; label: int64 tensor (B,); caption and source: lists of B texts, if any.

    indices: (B,) into the split; flips: bool (B,), which pictures are mirrored left-right. The tensors are copies.
    Raises InputError when the two differ in length, and for flips of texts.
    """
    if flips is not None and (flips.shape != indices.shape or flips.dtype != np.bool_):
        raise InputError(
            f"flips must be bool of shape {indices.shape}, one for each index; these are {flips.dtype} of shape "
            f"{flips.shape}."
        )
    found = {"media": _media(split, indices, flips), "label": torch.from_numpy(split.labels[indices])}
    if split.captions is not None:
        found["caption"] = [split.captions[index] for index in indices]
    if split.sources is not None:
        found["source"] = split.sources.chosen(indices)
    return found


def _media(split: Split, indices: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_] | None) -> Any:
    if isinstance(split.media, Documents) and flips is None:
        return split.media.chosen(indices)
    media = np.array(split.pictures[indices], dtype=np.uint8, subok=False)  # B C H W
    if flips is not None:
        media[flips] = media[flips][..., ::-1]
    return torch.from_numpy(media)
