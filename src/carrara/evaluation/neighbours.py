"""Does a model make pictures or repeat them? The nearest training picture of every sample.

The distance is the root mean square difference of the pixels, in grey levels 0 to 255. Products of whole numbers
below 2⁵³ are exact in float64, so distances are too: a copy has the distance 0, and nothing else has.

By itself a small distance proves nothing, as some pictures are easy to come near to; held-out pictures, which no
model has copied, show how near is usual.
Source: the comparison with held-out data follows A Non-Parametric Test to Detect Data-Copying in Generative Models,
Meehan, Chaudhuri and Dasgupta, 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.inputs import Counter, Progress, batches, checked_images, checked_samples, gathered, shuffled

if TYPE_CHECKING:
    from carrara.data import Dataset

QUERIES = 1024
CHUNK_VALUES = 4_000_000
HELDOUT_N = 1000


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each query its nearest training picture: the distance (N,) float64, 0 to 255, and its index (N,) int64."""

    distance: Tensor
    index: Tensor


@dataclass(frozen=True, eq=False)
class Beside:
    """How near samples come to the training pictures, beside how near held-out pictures do, whatever the distance."""

    n: int
    heldout_n: int
    train_n: int
    median: float
    minimum: float
    heldout_median: float
    heldout_minimum: float
    threshold: float
    """The 1st percentile of the held-out pictures' distances."""
    nearer_share: float
    """The share of samples below the threshold; near 0.01 for a model that copies nothing."""
    nearest: Nearest = field(repr=False)

    def as_dict(self) -> dict[str, int | float]:
        """The figures, as JSON takes them; not the single distances."""
        return {key: value for key, value in vars(self).items() if isinstance(value, int | float)}


@dataclass(frozen=True, eq=False)
class Memorisation(Beside):
    """The same by pixels."""

    copies: int
    """Samples that equal a training picture in every pixel."""
    heldout_copies: int

    def __str__(self) -> str:
        return (
            f"nearest training image at {self.median:.1f} in the median (held-out {self.heldout_median:.1f}), "
            f"{self.minimum:.1f} at least (held-out {self.heldout_minimum:.1f}); "
            f"{self.copies} exact copies (held-out {self.heldout_copies}); "
            f"{self.nearer_share:.1%} nearer than the held-out 1st percentile, {self.threshold:.1f} "
            f"(root mean square, 0 to 255; n = {self.n}, {self.heldout_n} held-out, {self.train_n} training images)"
        )


def memorisation(
    samples: Tensor, dataset: Dataset, *, heldout_n: int | None = HELDOUT_N, progress: Progress | None = None
) -> Memorisation:
    """The Memorisation of uint8 samples (N, C, H, W) of the dataset's shape, N ≥ 1; otherwise InputError.

    The held-out pictures are the first `heldout_n` in a fixed shuffled order (None: all). Where training may have
    mirrored its pictures (`dataset.flip`), the mirrored picture is searched for too.
    """
    samples = checked_samples(samples, dataset.shape)
    heldout = gathered(dataset.heldout.pictures, shuffled(len(dataset.heldout), heldout_n))
    # Both at once: the training pictures are read once.
    found = nearest(torch.cat([samples, heldout]), dataset.train.pictures, flip=dataset.flip, progress=progress)
    mine = Nearest(found.distance[: len(samples)], found.index[: len(samples)])
    return _compared(mine, found.distance[len(samples) :], len(dataset.train))


def nearest(
    queries: Tensor, train: npt.NDArray[np.uint8], *, flip: bool = False, progress: Progress | None = None
) -> Nearest:
    """The Nearest of uint8 queries (N, C, H, W) among uint8 pictures (M, C, H, W), M ≥ 1; the first where several tie.

    With `flip` a query and its mirror image count as one. Raises InputError on other shapes. Progress counts pairs.
    """
    queries = checked_images(queries, "queries")
    if queries.shape[1:] != train.shape[1:] or not len(train):
        raise InputError(
            f"pictures of shape {tuple(queries.shape[1:])} cannot be searched for among pictures {train.shape}."
        )
    counter = Counter((1 + flip) * len(queries) * len(train), progress)
    plain = _nearest(queries.flatten(1), train, counter)
    if not flip:
        return plain
    mirrored = _nearest(queries.flip(-1).flatten(1), train, counter)
    nearer = mirrored.distance < plain.distance
    return Nearest(
        torch.where(nearer, mirrored.distance, plain.distance), torch.where(nearer, mirrored.index, plain.index)
    )


def _nearest(queries: Tensor, train: npt.NDArray[np.uint8], counter: Counter) -> Nearest:
    """The Nearest of flat queries (N, D)."""
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(queries), dtype=torch.int64)
    size = max(1, CHUNK_VALUES // queries.shape[1])
    for start in range(0, len(train), size):
        chunk = torch.from_numpy(train[start : start + size].reshape(-1, queries.shape[1]).astype(np.float64))
        for rows in batches(torch.arange(len(queries)), min(QUERIES, size)):
            squared, where = _closest(queries[rows].double(), chunk)
            nearer = squared < best[rows]
            best[rows] = torch.where(nearer, squared, best[rows])
            index[rows] = torch.where(nearer, where + start, index[rows])
            counter.advance(len(rows) * len(chunk))
    return Nearest((best / queries.shape[1]).sqrt(), index)


def _closest(queries: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
    """The least squared distance of each row of (N, D) to the rows of (K, D), and which row that is."""
    products = torch.addmm(chunk.square().sum(1), queries, chunk.T, alpha=-2)
    least, where = products.min(1)
    return least + queries.square().sum(1), where


def beside(mine: Nearest, heldout: Tensor, train_n: int) -> dict[str, Any]:
    """The fields of Beside, from the samples' nearest and the held-out pictures' distances (K,)."""
    threshold = float(heldout.quantile(0.01))
    return {
        "n": len(mine.distance),
        "heldout_n": len(heldout),
        "train_n": train_n,
        "median": float(mine.distance.quantile(0.5)),
        "minimum": float(mine.distance.min()),
        "heldout_median": float(heldout.quantile(0.5)),
        "heldout_minimum": float(heldout.min()),
        "threshold": threshold,
        "nearer_share": float((mine.distance < threshold).double().mean()),
        "nearest": mine,
    }


def _compared(mine: Nearest, heldout: Tensor, train_n: int) -> Memorisation:
    copies, heldout_copies = (int((distance == 0).sum()) for distance in (mine.distance, heldout))
    return Memorisation(**beside(mine, heldout, train_n), copies=copies, heldout_copies=heldout_copies)
