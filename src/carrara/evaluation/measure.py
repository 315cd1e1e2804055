"""How far a model's samples are from real pictures: one Fréchet distance, never without its scale.

A Fréchet distance means little alone: it falls with the number of pictures, and rises and falls with the network,
its input size and the resizer. So every figure here has the same protocol, and carries it along:

    reference   the training split, all of it or its first `reference_n` pictures in a fixed shuffled order
    value       n samples against the reference
    floor       n real pictures the model never saw, from the held-out split, against the reference
    ceiling     n pictures of uniform noise against the reference

with the same n for all three: the number of samples, or of held-out pictures where these are fewer. A perfect model
scores about the floor. So does one that repeats its training pictures: `neighbours` looks for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.cache import Key, cache_folder, find, keep
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.frechet import Normal, caution, frechet_distance
from carrara.evaluation.inputs import Counter, Progress, batches, checked_samples, gathered, shuffled
from carrara.evaluation.statistics import Moments
from carrara.evaluation.streaming import PART, Selected, streamed

if TYPE_CHECKING:
    from carrara.data import Dataset

REFERENCE_N = 10_000
BATCH = 64


@dataclass(frozen=True)
class Frechet:
    """A Fréchet distance with all that decides its value; `str()` is one line, `as_dict()` is for JSON."""

    value: float
    floor: float
    ceiling: float
    n: int
    given: int
    """How many samples there were; the first n of them were measured."""
    reference: str
    reference_n: int
    dataset: str
    features: str
    sha256: str
    resizer: str
    caution: str | None = None
    """What must be said of a distance of so few pictures; None where there are more than features."""

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        chosen = f", the first of {self.given} samples" if self.given > self.n else ""
        warned = f"; {self.caution}" if self.caution else ""
        return (
            f"Fréchet {_short(self.value)} (floor {_short(self.floor)}, ceiling {_short(self.ceiling)}; "
            f"n = {self.n}{chosen}, reference {self.reference}, {self.features}, {self.resizer}){warned}"
        )


def _short(distance: float) -> str:
    return f"{distance:.0f}" if distance >= 100 else f"{distance:.3g}"


@dataclass(frozen=True)
class Yardstick:
    """A dataset's reference, floor and ceiling for sets of n pictures: made once, it measures many sets."""

    shape: tuple[int, int, int]
    features: Features
    normal: Normal
    floor: float
    ceiling: float
    n: int
    reference: str
    reference_n: int
    dataset: str

    def measure(self, samples: Tensor, progress: Progress | None = None) -> Frechet:
        """The Fréchet of the first n of uint8 samples (N, C, H, W); InputError when fewer or of another shape."""
        samples = checked_samples(samples, self.shape, at_least=self.n)
        return self._measured(samples, Counter(self.n, progress))

    def _measured(self, samples: Tensor, counter: Counter) -> Frechet:
        moments = _moments(batches(samples[: self.n], BATCH), self.features, counter)
        return Frechet(
            value=frechet_distance(moments, self.normal),
            floor=self.floor,
            ceiling=self.ceiling,
            n=self.n,
            given=len(samples),
            reference=self.reference,
            reference_n=self.reference_n,
            dataset=self.dataset,
            features=self.features.name,
            sha256=self.features.sha256,
            resizer=self.features.resizer,
            caution=caution(min(self.n, self.reference_n), self.features.dim),
        )


def frechet(
    samples: Tensor,
    dataset: Dataset,
    features: Features | str = "efficientnet",
    *,
    reference_n: int | None = REFERENCE_N,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Frechet:
    """The Fréchet distance of samples from a dataset, with its floor and ceiling at the same n.

    `samples` are uint8 (N, C, H, W) of the dataset's shape, N ≥ 2; `features` is a kind in FEATURES, a dotted path or
    the object; `reference_n` limits the reference (None: all of the training split); what is computed from real
    pictures is kept in the folder `cache` (None: the user's cache folder).
    Raises InputError on other samples or fewer than two pictures, NonFinite when the features are.
    """
    samples = checked_samples(samples, dataset.shape, at_least=2)
    surveyor = _Surveyor.of(dataset, features, reference_n, cache)
    n = min(len(samples), len(dataset.heldout))
    counter = Counter(surveyor.work(n) + n, progress)
    return surveyor.yardstick(n, counter)._measured(samples, counter)


def yardstick(
    dataset: Dataset,
    n: int,
    features: Features | str = "efficientnet",
    *,
    reference_n: int | None = REFERENCE_N,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Yardstick:
    """What is needed to measure sets of n pictures of a dataset again and again; arguments as in `frechet`.

    Raises InputError when n is below 2 or above the number of held-out pictures.
    """
    if n > len(dataset.heldout):
        raise InputError(
            f"n = {n}, but {dataset.name} has {len(dataset.heldout)} held-out pictures, and the floor needs n of them."
        )
    surveyor = _Surveyor.of(dataset, features, reference_n, cache)
    return surveyor.yardstick(n, Counter(surveyor.work(n), progress))


def reference(
    dataset: Dataset,
    features: Features | str = "efficientnet",
    *,
    reference_n: int | None = REFERENCE_N,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Moments, str]:
    """The Moments of a dataset's reference, and which pictures it is; arguments and what is raised as in `frechet`.

    Features are kept part by part: what was stopped goes on.
    """
    surveyor = _Surveyor.of(dataset, features, reference_n, cache)
    return surveyor.moments(Counter(surveyor.reference_n, progress), resumable=True), surveyor.described()


@dataclass(frozen=True)
class _Surveyor:
    """Makes the yardsticks of one dataset with one set of features."""

    dataset: Dataset
    features: Features
    reference_n: int
    folder: Path

    @classmethod
    def of(cls, dataset: Dataset, features: Features | str, reference_n: int | None, cache: Path | None) -> _Surveyor:
        available = len(dataset.train)
        size = available if reference_n is None else min(reference_n, available)
        if size < 2:
            raise InputError(f"the reference needs at least 2 training pictures; got {size} of {available}.")
        loaded = load_features(features) if isinstance(features, str) else features
        return cls(dataset, loaded, size, cache or cache_folder())

    def selected(self) -> Selected:
        """The reference's pictures."""
        return Selected(self.dataset.train.media, shuffled(len(self.dataset.train), self.reference_n))

    def work(self, n: int) -> int:
        """How many pictures a yardstick passes through the network when nothing is cached."""
        return self.reference_n + 2 * n

    def yardstick(self, n: int, counter: Counter) -> Yardstick:
        if n < 2:
            raise InputError(
                f"a Fréchet distance needs at least 2 pictures on each side; got n = {n} "
                f"({self.dataset.name} has {len(self.dataset.heldout)} held-out pictures)."
            )
        normal = Normal.of(self.moments(counter))
        floor, ceiling = self._bounds(normal, n, counter)
        return Yardstick(
            shape=self.dataset.shape,
            features=self.features,
            normal=normal,
            floor=floor,
            ceiling=ceiling,
            n=n,
            reference=self.described(),
            reference_n=self.reference_n,
            dataset=self.dataset.name,
        )

    def parts(self, resumable: bool) -> Iterator[Tensor]:
        """The features of the reference, PART pictures at a time; kept as they are made where that is wanted."""
        chosen = self.selected()
        if resumable:
            return streamed(chosen, self.features, cache=self.folder)
        return (self.features(chosen[first : first + PART]) for first in range(0, len(chosen), PART))

    def moments(self, counter: Counter, resumable: bool = False) -> Moments:
        """The Moments of the reference, the same in either way."""
        key = self._key("reference")
        kept = find(key, self.folder)
        if kept is not None:
            counter.advance(self.reference_n)
            return Moments.of(self.reference_n, kept["mean"], kept["cov"])
        moments = Moments(self.features.dim)
        for part in self.parts(resumable):
            moments.update(part)
            counter.advance(len(part))
        made = {"mean": moments.mean, "cov": moments.cov}
        keep(key, made, self.folder)
        # Not `moments`: what is made must equal what is kept in its last bit too.
        return Moments.of(self.reference_n, made["mean"], made["cov"])

    def _bounds(self, reference: Normal, n: int, counter: Counter) -> tuple[float, float]:
        key = self._key("bounds", n=n)
        kept = find(key, self.folder)
        if kept is not None:
            counter.advance(2 * n)
            return float(kept["floor"]), float(kept["ceiling"])
        rows = shuffled(len(self.dataset.heldout), n)
        real = _moments(_rows(self.dataset.heldout.media, rows), self.features, counter)
        noise = _moments(_noise(n, self.dataset.shape), self.features, counter)
        floor, ceiling = (frechet_distance(side, reference) for side in (real, noise))
        keep(key, {"floor": _scalar(floor), "ceiling": _scalar(ceiling)}, self.folder)
        return floor, ceiling

    def _key(self, what: str, **more: int) -> Key:
        return {
            "what": what,
            "protocol": 1,
            "dataset": self.dataset.fingerprint,
            "features": self.features.name,
            "sha256": self.features.sha256,
            "resizer": self.features.resizer,
            "reference_n": self.reference_n,
            **more,
        }

    def described(self) -> str:
        """Which pictures the reference is."""
        available = len(self.dataset.train)
        limited = f"{self.reference_n} of {available}" if self.reference_n < available else f"all {available}"
        return f"{limited} training images"


def _moments(parts: Iterable[Tensor], features: Features, counter: Counter) -> Moments:
    moments = Moments(features.dim)
    for part in parts:
        moments.update(features(part))
        counter.advance(len(part))
    return moments


def _rows(media: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> Iterator[Tensor]:
    for start in range(0, len(rows), BATCH):
        yield gathered(media, rows[start : start + BATCH])


def _noise(n: int, shape: tuple[int, int, int]) -> Iterator[Tensor]:
    rng = torch.Generator().manual_seed(0)
    for start in range(0, n, BATCH):
        yield torch.randint(0, 256, (min(BATCH, n - start), *shape), dtype=torch.uint8, generator=rng)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
