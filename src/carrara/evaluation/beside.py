"""Measures of samples beside the Fréchet distance: of the same features, of the same sets, by the same protocol.

    training    n training pictures, the first of the Fréchet distance's reference: what samples are measured against
    heldout     n held-out pictures, measured as samples are: what a perfect model would score
    noise       n pictures of uniform noise, measured as samples are

n is the number of samples, of held-out or of training pictures, whichever is least. Features come from
`carrara.evaluation.streaming`, so what one measure has made of a picture no other makes again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.diversity import Manifold, Overlap, overlap
from carrara.evaluation.features import Features, identity
from carrara.evaluation.inception_score import SPLITS, InceptionScore, inception_score
from carrara.evaluation.inputs import Progress
from carrara.evaluation.kernels import kid
from carrara.evaluation.measure import heldout, noise, training
from carrara.evaluation.streaming import Pictures, features_of
from carrara.evaluation.told import SHARES

if TYPE_CHECKING:
    from carrara.data import Dataset

OVERLAP_N = 2000
"""At most so many pictures on each side for precision and recall: 15 seconds on one core, four times that for twice as many."""


@dataclass(frozen=True, eq=False)
class Sets:
    """Samples, uint8 (N, C, H, W), and the sets beside them, as some features see them; each computed when first asked for."""

    drawn: Tensor
    dataset: Dataset
    features: Features
    cache: Path | None = None
    progress: Progress | None = None

    @property
    def n(self) -> int:
        """How many pictures of each set are seen."""
        return min(len(self.drawn), len(self.dataset.heldout), len(self.dataset.train))

    @cached_property
    def samples(self) -> Tensor:
        """The features (n, dim) of the first n samples."""
        return self._seen(self.drawn[: self.n])

    @cached_property
    def training(self) -> Tensor:
        """The features (n, dim) of n training pictures."""
        return self._seen(training(self.dataset, self.n))

    @cached_property
    def heldout(self) -> Tensor:
        """The features (n, dim) of n held-out pictures."""
        return self._seen(heldout(self.dataset, self.n))

    @cached_property
    def noise(self) -> Tensor:
        """The features (n, dim) of n pictures of noise."""
        return self._seen(noise(self.dataset, self.n))

    def words(self, n: int) -> dict[str, Any]:
        """What every figure of n pictures says of how it was made."""
        return {
            "given": len(self.drawn),
            "reference": f"{n} of {len(self.dataset.train)} training images",
            "dataset": self.dataset.name,
            **identity(self.features),
        }

    def kept(self, what: str, n: int, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Figures of n real pictures, made once for this dataset and these features."""
        key: cache.Key = {
            "what": what,
            "protocol": 1,
            "dataset": self.dataset.fingerprint,
            **identity(self.features),
            "n": n,
        }

        def tensors() -> cache.Tensors:
            return {name: torch.tensor(value, dtype=torch.float64) for name, value in make().items()}

        found = cache.kept(key, self.cache or cache.cache_folder(), tensors)
        return {name: float(value) for name, value in found.items()}

    def _seen(self, pictures: Pictures) -> Tensor:
        return features_of(pictures, self.features, cache=self.cache, progress=self.progress)


def kernel_distance(sets: Sets) -> dict[str, Any]:
    """The figures of KID from n training pictures, unbiased, with its 95 % interval, floor and ceiling; n ≥ 2."""
    found = kid(sets.samples, sets.training)
    low, high = found.interval or (None, None)
    scale = sets.kept("kid bounds", sets.n, lambda: _kid_bounds(sets))
    return {**found.as_dict(), "low": low, "high": high, **scale, **sets.words(sets.n)}


def _kid_bounds(sets: Sets) -> dict[str, float]:
    return {
        "floor": kid(sets.heldout, sets.training).value,
        "ceiling": kid(sets.noise, sets.training).value,
    }


def overlaps(sets: Sets) -> dict[str, Any]:
    """Precision, recall, density and coverage of n samples beside n training pictures, and those of held-out pictures and noise.

    n is at most OVERLAP_N. Raises InputError for fewer than 4 pictures.
    """
    n = min(sets.n, OVERLAP_N)
    real = Manifold.of(sets.training[:n])
    found = overlap(Manifold.of(sets.samples[:n]), real)
    scale = {
        "heldout": sets.kept("overlap heldout", n, lambda: _shares(overlap(Manifold.of(sets.heldout[:n]), real))),
        "noise": sets.kept("overlap noise", n, lambda: _shares(overlap(Manifold.of(sets.noise[:n]), real))),
    }
    return {**_shares(found), "k": found.k, "n": n, **scale, **sets.words(n)}


def _shares(found: Overlap) -> dict[str, float]:
    return {name: getattr(found, name) for name in SHARES}


@dataclass(frozen=True)
class Logits:
    """The logits of an Inception network as Features, so that they are kept as such are."""

    network: Any
    dim: int

    @classmethod
    def of(cls, features: Features) -> Logits:
        """The Logits of features that have a classifier behind them; otherwise InputError."""
        logits = getattr(features, "logits", None)
        if not callable(logits):
            raise InputError(
                f"the metric 'inception_score' needs Inception's classifier, and {features.name} has none: choose the features "
                "inception:PATH or inception_tensorflow:PATH, PATH being weights with the last layer"
            )
        return cls(features, int(logits(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[1]))

    @property
    def name(self) -> str:
        """The network's name, and that these are logits."""
        return f"{self.network.name} logits"

    @property
    def sha256(self) -> str:
        """The network's."""
        return str(self.network.sha256)

    @property
    def resizer(self) -> str:
        """The network's."""
        return str(self.network.resizer)

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 logits (B, classes) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        made: Tensor = self.network.logits(images)
        return made


def inception_scores(sets: Sets) -> dict[str, Any]:
    """The Inception Score of n samples, and of n held-out pictures; the sets' features are Logits.

    The floor is 1: every picture gets the same verdict. Where there are fewer pictures than SPLITS there are as many splits.
    """
    splits = min(SPLITS, sets.n)
    mine = inception_score(sets.samples, splits)
    real: InceptionScore = inception_score(sets.heldout, splits)
    words = {name: value for name, value in sets.words(sets.n).items() if name != "reference"}
    return {**dataclasses.asdict(mine), "floor": 1.0, "heldout": real.value, **words}
