"""The measures of one set of pictures, each kept as soon as it is there under what decides it.

Figures are known by the features, or the pixels, they are of, and by what those were measured against. So the same pictures
have the same figures, whatever they are called and wherever they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carrara import __version__, tensors
from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.compare.against import Reference
from carrara.evaluation.diversity import K, Manifold, overlap
from carrara.evaluation.features import Features
from carrara.evaluation.frechet import Normal, frechet_distance
from carrara.evaluation.inputs import Progress, batches
from carrara.evaluation.kernels import kid
from carrara.evaluation.neighbours import memorisation
from carrara.evaluation.reader import Reader
from carrara.evaluation.statistics import Moments
from carrara.evaluation.statistics_file import Statistics
from carrara.evaluation.streaming import PART, Pictures, features_of
from carrara.evaluation.uncertainty import estimate

if TYPE_CHECKING:
    from carrara.data import Dataset

Figures = dict[str, float | None]

FRECHET = (
    "frechet",
    "frechet_low",
    "frechet_high",
    "frechet_infinite",
    "frechet_infinite_low",
    "frechet_infinite_high",
)
PAIRS = ("kid", "kid_low", "kid_high", "precision", "recall", "density", "coverage")
NEAR = ("copies", "nearer_share")
READ = ("read",)
NAMES = (*FRECHET, *PAIRS, *NEAR, *READ)
LEAST = 6
"""Pictures that a set needs: extrapolation measures thirds of it, each of two or more."""


@dataclass(frozen=True, eq=False)
class Ruler:
    """What sets are measured against, made once: the reference's Gaussian, and features of its first n pictures."""

    reference: Reference
    features: Features
    mean: Tensor
    cov: Tensor
    n: int | None
    """How many pictures the Gaussian is of."""
    real: Tensor | None
    """Features (M, dim) of the reference's first pictures; None where only statistics are known."""
    folder: Path

    @classmethod
    def of(cls, reference: Reference, features: Features, n: int, folder: Path, progress: Progress | None) -> Ruler:
        """The Ruler for sets of n pictures, which keeps figures in the folder. Progress counts the reference's pictures."""
        mean, cov, count = reference.summary(features, progress)
        pictures = reference.real(n)
        real = None if pictures is None else features_of(pictures, features)
        return cls(reference, features, mean, cov, count, real, folder)

    @cached_property
    def normal(self) -> Normal:
        """The reference's Gaussian."""
        return Normal.with_covariance(self.mean, self.cov)

    @cached_property
    def manifold(self) -> Manifold | None:
        """Where the reference's pictures lie; None where that is not known, or too few are."""
        return None if self.real is None or len(self.real) <= K else Manifold.of(self.real, K)

    @cached_property
    def reader(self) -> Reader:
        """Who reads the classes of pictures."""
        if self.reference.dataset is None:
            raise InputError(f"{self.reference.name} has no classes that could be read")
        return Reader.fit(self.reference.dataset)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all that it holds."""
        held = {"mean": self.mean, "cov": self.cov}
        return tensors.sha256(held if self.real is None else {**held, "real": self.real})

    def of_statistics(self, statistics: Statistics) -> Figures:
        """The Fréchet distance of statistics, which is all that can be had of them."""
        return {**dict.fromkeys(NAMES), "frechet": frechet_distance(statistics.normal(), self.normal)}

    def of_pictures(
        self, pictures: Pictures, labels: Tensor | None, progress: Progress | None, done: Callable[[], None]
    ) -> Figures:
        """The figures of pictures, those of their classes where labels (n,) are given; None for what cannot be had.

        Progress counts pictures; `done` is called once after each of three pieces of the rest.
        """
        found: Figures = dict.fromkeys(NAMES)
        rows = features_of(pictures, self.features, progress=progress)
        found |= self._kept("distances", {"features": rows}, self.digest, lambda: self._distances(rows))
        done()
        dataset, media = self.reference.dataset, torch.as_tensor(pictures[0 : len(pictures)])
        if dataset is not None:
            found |= self._kept("near", {"media": media}, dataset.fingerprint, lambda: _near(media, dataset))
        done()
        if dataset is not None and labels is not None:
            found |= self._kept(
                "read",
                {"media": media, "labels": labels},
                dataset.fingerprint,
                lambda: {"read": self.reader.read_rate(media, labels)},
            )
        done()
        return found

    def _kept(self, what: str, of: cache.Tensors, against: str, make: Callable[[], Mapping[str, float]]) -> Figures:
        key: cache.Key = {"what": what, "carrara": __version__, "of": tensors.sha256(of), "against": against, "k": K}
        kept = cache.kept(key, self.folder, lambda: _doubles(make()))
        return {name: float(value) for name, value in kept.items()}

    def _distances(self, rows: Tensor) -> dict[str, float]:
        """What is measured between features (n, dim) and the reference's."""
        return {**self._frechet(rows), **self._kid(rows), **self._overlap(rows)}

    def _frechet(self, rows: Tensor) -> dict[str, float]:
        moments = Moments(rows.shape[1])
        for part in batches(rows, PART):
            moments.update(part)
        # As a statistics file holds it: a file and the pictures it is of agree in the last bit.
        mine = Normal.with_covariance(moments.mean, (moments.cov + moments.cov.T) / 2)
        value, found = frechet_distance(mine, self.normal), estimate(rows, self.normal)
        return dict(zip(FRECHET, (value, *found.around(value), found.infinite, found.low, found.high), strict=True))

    def _kid(self, rows: Tensor) -> dict[str, float]:
        if self.real is None or len(self.real) < 3:
            return {}
        found = kid(rows, self.real)
        low, high = found.interval or (found.value, found.value)
        return {"kid": found.value, "kid_low": low, "kid_high": high}

    def _overlap(self, rows: Tensor) -> dict[str, float]:
        if self.manifold is None:
            return {}
        found = overlap(Manifold.of(rows, K), self.manifold)
        return {name: getattr(found, name) for name in ("precision", "recall", "density", "coverage")}


def _near(media: Tensor, dataset: Dataset) -> dict[str, float]:
    """How many of the pictures (n, C, H, W) are training pictures, and the share that is nearer than held-out ones are."""
    found = memorisation(media, dataset)
    return {"copies": found.copies, "nearer_share": found.nearer_share}


def _doubles(figures: Mapping[str, float]) -> cache.Tensors:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
