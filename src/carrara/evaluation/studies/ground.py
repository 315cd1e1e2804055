"""What every cell of a study is measured against, made once, and the measures.

reference    the training pictures' Gaussian, for the Fréchet distance (carrara.evaluation.measure)
real         n training pictures, for precision and recall
held out     n held-out pictures, measured as samples are: what a perfect model would score
noise        n pictures of uniform noise, measured as samples are
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from carrara.evaluation.diversity import Apart, K, Manifold, Overlap, apart, overlap
from carrara.evaluation.features import Features
from carrara.evaluation.frechet import frechet_distance
from carrara.evaluation.inputs import Progress
from carrara.evaluation.measure import Yardstick, heldout, noise, training, yardstick
from carrara.evaluation.reader import Reader
from carrara.evaluation.statistics import Moments
from carrara.evaluation.streaming import Pictures, features_of
from carrara.evaluation.studies.study import Measure
from carrara.evaluation.uncertainty import Estimate, estimate

if TYPE_CHECKING:
    from carrara.data import Dataset

Figures = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Ground:
    """What pictures are measured against: n real ones, and the yardstick of the Fréchet distance."""

    dataset: Dataset
    yardstick: Yardstick
    real: Manifold

    @cached_property
    def reader(self) -> Reader | None:
        """Who reads the classes of pictures; None where there are none to tell apart."""
        return Reader.fit(self.dataset) if len(self.dataset.classes) > 1 else None

    @classmethod
    def of(cls, dataset: Dataset, n: int, features: Features | str, progress: Progress | None = None) -> Ground:
        """The Ground for sets of n pictures. Raises InputError where the dataset has fewer, or n is too small."""
        measured = yardstick(dataset, n, features, progress=progress)
        return cls(dataset, measured, Manifold.of(seen(training(dataset, n), measured.features), K))

    def figures(
        self, pictures: Tensor, labels: Tensor | None, measures: Sequence[str], progress: Progress | None = None
    ) -> Figures:
        """Those measures of n uint8 pictures (n, C, H, W) with the labels (n,) int64 that they show."""
        looked = Looked(pictures, labels, seen(pictures, self.yardstick.features, progress), self)
        return {name: MEASURES[name].of(looked) for name in measures}

    def heldout(self, measures: Sequence[str]) -> Figures:
        """The measures of n held-out pictures."""
        return self.figures(*heldout_pictures(self.dataset, self.yardstick.n), measures)

    def noise(self, measures: Sequence[str]) -> Figures:
        """The measures of n pictures of uniform noise."""
        return self.figures(*noise_pictures(self.dataset, self.yardstick.n), measures)


def heldout_pictures(dataset: Dataset, n: int) -> tuple[Tensor, Tensor | None]:
    """The first n held-out pictures (n, C, H, W) in a fixed shuffled order, with their labels (n,); None without classes."""
    chosen = heldout(dataset, n)
    labels = torch.from_numpy(dataset.heldout.labels[chosen.rows]) if dataset.classes else None
    return chosen[:], labels


def noise_pictures(dataset: Dataset, n: int) -> tuple[Tensor, Tensor | None]:
    """n pictures of uniform noise (n, C, H, W), always the same, and the classes in turn (n,); None without classes."""
    labels = torch.arange(n) % len(dataset.classes) if dataset.classes else None
    return noise(dataset, n), labels


def seen(pictures: Pictures, features: Features, progress: Progress | None = None) -> Tensor:
    """The features (N, dim) of N pictures, each of which passes through the network once in its life."""
    return features_of(pictures, features, progress=progress)


@dataclass(frozen=True, eq=False)
class Looked:
    """Pictures with their features, and what several measures share, computed when it is first asked for."""

    pictures: Tensor
    labels: Tensor | None
    features: Tensor
    ground: Ground

    @cached_property
    def overlap(self) -> Overlap:
        return overlap(Manifold.of(self.features, self.ground.real.k), self.ground.real)

    @cached_property
    def estimate(self) -> Estimate:
        return estimate(self.features, self.ground.yardstick.normal)

    @cached_property
    def apart(self) -> Apart:
        return apart(self.features, self.labels)


def frechet(looked: Looked) -> float:
    """The Fréchet distance to the training pictures."""
    return _distance(looked.features, looked.ground)


def floor(looked: Looked) -> float:
    """The same of as many held-out pictures."""
    ground = looked.ground
    return _distance(seen(heldout(ground.dataset, len(looked.features)), ground.yardstick.features), ground)


def end(looked: Looked, sign: int) -> float:
    """The low (−1) or high (1) end of the 95 % interval of the Fréchet distance."""
    found = looked.estimate
    return max(0.0, found.value + sign * (found.high - found.low) / 2)


def _distance(features: Tensor, ground: Ground) -> float:
    moments = Moments(features.shape[1])
    moments.update(features)
    return frechet_distance(moments, ground.yardstick.normal)


def read(looked: Looked) -> float | None:
    """The share of pictures that are read as the class they are to show; None where there are no classes."""
    reader = looked.ground.reader
    return None if reader is None or looked.labels is None else reader.read_rate(looked.pictures, looked.labels)


def spread(looked: Looked) -> float:
    """The standard deviation of each pixel over the pictures, root mean square over the pixels, in grey levels."""
    return float(looked.pictures.double().var(0, correction=0).mean().sqrt())


def contrast(looked: Looked) -> float:
    """The standard deviation of a picture's pixels, its mean over the pictures, in grey levels."""
    return float(looked.pictures.double().flatten(1).std(1, correction=0).mean())


MEASURES: dict[str, Measure[Looked]] = {
    "frechet": Measure(
        "Fréchet distance", "Fréchet", "distance", "Fréchet distance to the training pictures.", "lower", frechet
    ),
    "low": Measure("95 % interval, low", "low", "distance", "Low end of the interval.", "", lambda x: end(x, -1)),
    "high": Measure("95 % interval, high", "high", "distance", "High end of the interval.", "", lambda x: end(x, 1)),
    "floor": Measure("Floor", "floor", "distance", "Fréchet distance of as many held-out pictures.", "", floor),
    "infinite": Measure(
        "At infinite n",
        "infinite n",
        "distance",
        "Fréchet distance of infinitely many such pictures.",
        "lower",
        lambda x: x.estimate.infinite,
    ),
    "read": Measure("Read as asked", "read", "share", "Samples read as the class asked for.", "higher", read),
    "precision": Measure(
        "Precision",
        "precision",
        "share",
        "Samples that lie among real pictures.",
        "higher",
        lambda x: x.overlap.precision,
    ),
    "recall": Measure(
        "Recall", "recall", "share", "Real pictures that lie among the samples.", "higher", lambda x: x.overlap.recall
    ),
    "density": Measure(
        "Density",
        "density",
        "balls / k",
        "Real pictures' balls that a sample lies in.",
        "higher",
        lambda x: x.overlap.density,
    ),
    "coverage": Measure(
        "Coverage",
        "coverage",
        "share",
        "Real pictures' balls that hold a sample.",
        "higher",
        lambda x: x.overlap.coverage,
    ),
    "apart": Measure(
        "Pairs apart", "apart", "distance", "Mean feature distance of two pictures.", "", lambda x: x.apart.overall
    ),
    "apart_in_class": Measure(
        "Pairs of a class apart",
        "in class",
        "distance",
        "Mean feature distance of two pictures of one class.",
        "",
        lambda x: x.apart.same_class,
    ),
    "spread": Measure(
        "Spread", "spread", "grey levels", "Standard deviation of a pixel over the pictures.", "", spread
    ),
    "contrast": Measure(
        "Contrast", "contrast", "grey levels", "Standard deviation of a picture's pixels.", "", contrast
    ),
}
"""Every measure by its key in the results."""
