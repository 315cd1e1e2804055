"""Does a model repeat its training pictures where a network sees no difference? The nearest by features.

Pixels call two pictures different that are shifted by one; features do not. `carrara.evaluation.neighbours` finds copies
of pixels, this one near copies. Distances are Euclidean between features, in float64, and mean nothing by themselves:
they are read beside those of held-out pictures, which no model has copied.

Sources: the share of samples nearer than held-out pictures is the statistic of A Non-Parametric Test to Detect
Data-Copying in Generative Models, Meehan, Chaudhuri and Dasgupta, 2020, section 3, there Δ(P, Q) (Mann and Whitney's U).
A held-out percentile as threshold is carrara's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation.inputs import Counter, Progress, batches
from carrara.evaluation.neighbours import Beside, Nearest, beside

CHUNK_VALUES = 4_000_000
"""Distances held at a time."""


@dataclass(frozen=True, eq=False)
class FeatureMemorisation(Beside):
    """The same by features."""

    nearer_than_heldout: float
    """How often a sample is nearer than a held-out picture, ties counting half: 0.5 for a model that copies nothing."""
    z: float
    """The same in standard errors: above 2 copying is likely, far below −2 samples lie off the training pictures."""

    def __str__(self) -> str:
        return (
            f"nearest training features at {self.median:.3g} in the median (held-out {self.heldout_median:.3g}); "
            f"a sample is nearer than a held-out picture {self.nearer_than_heldout:.1%} of the time (z = {self.z:.1f}); "
            f"{self.nearer_share:.1%} nearer than the held-out 1st percentile, {self.threshold:.3g} "
            f"(n = {self.n}, {self.heldout_n} held-out, {self.train_n} training images)"
        )


def feature_memorisation(
    samples: Tensor, heldout: Tensor, train: Tensor, *, progress: Progress | None = None
) -> FeatureMemorisation:
    """The FeatureMemorisation of features (N, dim), (K, dim) and (M, dim); N, K, M ≥ 1. Progress counts pairs.

    Where training mirrored its pictures, give `train` the mirrored ones' features too.
    Raises InputError on other shapes, NonFinite on NaN or infinity.
    """
    sides = {"samples": samples, "held-out pictures": heldout, "training pictures": train}
    for what, side in sides.items():
        _check(side, what, train)
    found = nearest_features(torch.cat([samples, heldout]), train, progress=progress)
    mine, theirs = found.distance[: len(samples)], found.distance[len(samples) :]
    share = _nearer(mine, theirs)
    return FeatureMemorisation(
        **beside(Nearest(mine, found.index[: len(samples)]), theirs, len(train)),
        nearer_than_heldout=share,
        z=(share - 0.5) / math.sqrt((len(mine) + len(theirs) + 1) / (12 * len(mine) * len(theirs))),
    )


def nearest_features(queries: Tensor, train: Tensor, *, progress: Progress | None = None) -> Nearest:
    """The Nearest of features (N, dim) among (M, dim), Euclidean; 0 for an equal one. Raises as `feature_memorisation`."""
    _check(train, "training pictures", train)
    _check(queries, "queries", train)
    counter = Counter(len(queries) * len(train), progress)
    train = train.detach().cpu().double()
    squares = train.square().sum(1)
    found = [
        _closest(rows.detach().cpu().double(), train, squares, counter)
        for rows in batches(queries, max(1, CHUNK_VALUES // len(train)))
    ]
    return Nearest(torch.cat([one.distance for one in found]), torch.cat([one.index for one in found]))


def _closest(rows: Tensor, train: Tensor, squares: Tensor, counter: Counter) -> Nearest:
    index = torch.addmm(squares, rows, train.T, alpha=-2).argmin(1)
    counter.advance(len(rows) * len(train))
    # The product finds which; the difference says how far, exactly 0 for an equal one.
    return Nearest((rows - train[index]).norm(dim=1), index)


def _nearer(mine: Tensor, theirs: Tensor) -> float:
    """How often one of (N,) is below one of (K,), ties counting half."""
    line = theirs.sort().values
    above = len(line) - torch.searchsorted(line, mine, right=True)
    equal = torch.searchsorted(line, mine, right=True) - torch.searchsorted(line, mine)
    return float((above + equal / 2).double().mean()) / len(line)


def _check(side: Tensor, what: str, train: Tensor) -> None:
    if side.ndim != 2 or not len(side):
        raise InputError(f"features of {what} must have the shape (N, dim), N at least 1; got {tuple(side.shape)}.")
    if side.shape[1] != train.shape[1]:
        raise InputError(
            f"features of {what} have {side.shape[1]} dimensions and those of training pictures {train.shape[1]}: "
            "use one network for both."
        )
    if not torch.isfinite(side).all():
        raise NonFinite(f"features of {what} hold NaN or infinity: the network that made them is broken.")
