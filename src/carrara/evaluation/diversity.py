"""Are the samples good, and are they all of it? Precision and recall apart, and how far samples lie from one another.

A Fréchet distance is one number for two failings: samples that look like nothing real, and samples that leave out much of
what is real. Here the two are told apart. Around each picture a ball reaches to its k-th nearest neighbour; the balls of
a set together are an estimate of where pictures of its kind lie.

    precision   the share of samples within a real picture's ball           are they real?
    recall      the share of real pictures within a sample's ball           is nothing left out?
    density     in how many real balls a sample lies, over k                as precision, but one outlier counts little
    coverage    the share of real balls that hold a sample                  as recall, but of the real balls only

Distances are Euclidean, between features, in float64, from differences and not from products: a copy has distance 0.

Sources: Improved Precision and Recall Metric for Assessing Generative Models, Kynkäänniemi et al., 2019, eq. 1 and 2.
Reliable Fidelity and Diversity Metrics for Generative Models, Naeem et al., 2020, eq. 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite

K = 3
CHUNK_VALUES = 4_000_000
"""Distances held at a time."""


@dataclass(frozen=True)
class Overlap:
    """How two sets of pictures cover each other, each figure but the density in [0, 1], with the k of the balls."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


@dataclass(frozen=True, eq=False)
class Manifold:
    """Where pictures lie: their features (N, dim) float64, and the radius (N,) of the ball around each."""

    features: Tensor
    radii: Tensor
    k: int

    @classmethod
    def of(cls, features: Tensor, k: int = K) -> Manifold:
        """The Manifold of features (N, dim), N > k ≥ 1, where a ball reaches to the k-th nearest *other* picture.

        Raises InputError for fewer, NonFinite where they are not finite.
        """
        features = _checked(features)
        if not 1 <= k < len(features):
            raise InputError(
                f"balls that reach to the {k}-th nearest neighbour need k of at least 1 and more than k pictures; "
                f"got {len(features)} pictures"
            )
        nearest = [_others(block, start).kthvalue(k).values for start, block in _blocks(features, features)]
        return cls(features, torch.cat(nearest), k)

    def meet(self, others: Tensor) -> tuple[Tensor, Tensor]:
        """In how many balls each of the others (M, dim) lies, (M,) int64, and how many of them each ball holds, (N,)."""
        lies, holds = [], torch.zeros(len(self.radii), dtype=torch.int64)
        for _, distances in _blocks(_checked(others), self.features):
            within = distances <= self.radii
            lies.append(within.sum(1))
            holds += within.sum(0)
        return torch.cat(lies), holds


def overlap(samples: Manifold, real: Manifold) -> Overlap:
    """The Overlap of samples with real pictures. Swapped, precision and recall change places."""
    lies, holds = real.meet(samples.features)
    recalled, _ = samples.meet(real.features)
    return Overlap(
        precision=_share(lies > 0),
        recall=_share(recalled > 0),
        density=float(lies.double().mean()) / real.k,
        coverage=_share(holds > 0),
        k=real.k,
    )


@dataclass(frozen=True)
class Apart:
    """The mean distance of two pictures of a set, and of two that show one class; None where no class has two."""

    overall: float
    same_class: float | None


def apart(features: Tensor, labels: Tensor | None = None) -> Apart:
    """How far features (N, dim), N ≥ 2, lie apart; `labels` (N,) int64 are their classes.

    The mean over all pairs of two, and over the pairs of each class, each class counted alike however many pictures it has.
    Raises InputError for fewer than two, or as many labels as there are not pictures.
    """
    features = _checked(features)
    if len(features) < 2:
        raise InputError(f"a distance between pictures needs at least 2 of them; got {len(features)}")
    if labels is None:
        labels = torch.zeros(len(features), dtype=torch.int64)
        return Apart(_between(features, labels)[0], None)
    if labels.shape != features.shape[:1]:
        raise InputError(f"{len(features)} pictures need as many labels; got the shape {tuple(labels.shape)}")
    return Apart(*_between(features, labels.cpu()))


def _between(features: Tensor, labels: Tensor) -> tuple[float, float | None]:
    """The mean distance over all pairs, and the mean over classes of that over the class's pairs."""
    rows = torch.cat([_sums(block, labels[start:], labels) for start, block in _blocks(features, features)])
    total = float(rows[:, 0].sum()) / (len(labels) * (len(labels) - 1))
    sums = torch.zeros(int(labels.max()) + 1, dtype=torch.float64).index_add_(0, labels, rows[:, 1])
    counts = torch.bincount(labels, minlength=len(sums)).double()
    some = counts > 1
    means = sums[some] / (counts[some] * (counts[some] - 1))
    return total, float(means.mean()) if len(means) else None


def _sums(block: Tensor, mine: Tensor, labels: Tensor) -> Tensor:
    """For each row of distances (b, N) its sum, and its sum over the pictures of the row's own class: (b, 2)."""
    same = mine[: len(block), None] == labels
    return torch.stack([block.sum(1), (block * same).sum(1)], dim=1)


def _blocks(queries: Tensor, points: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first row, the distances (b, N) of some rows of the queries (M, dim) to all points (N, dim)), in turn."""
    if queries.shape[1] != points.shape[1]:
        raise InputError(
            f"features of {queries.shape[1]} and of {points.shape[1]} dimensions cannot be compared: "
            "use one network for both"
        )
    size = max(1, CHUNK_VALUES // len(points))
    for start in range(0, len(queries), size):
        rows = queries[start : start + size]
        yield start, torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")


def _others(distances: Tensor, start: int) -> Tensor:
    """The distances of rows start, start + 1, … with each row's distance to itself out of the way."""
    distances.diagonal(offset=start).fill_(torch.inf)
    return distances


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or not len(features):
        raise InputError(f"features must have the shape (N, dim) with N at least 1; got {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise NonFinite("features hold NaN or infinity: the network that made them, or its input, is broken")
    return features.detach().cpu().double()


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())
