"""How far a model's samples are from real pictures: one Fréchet distance, never without its scale.

A Fréchet distance means little alone: it falls with the number of pictures, and rises and falls with the network,
its input size and the resizer. So every figure here has the same protocol, and carries it along:

    reference   the training split, all of it or its first `reference_n` pictures in a fixed shuffled order; or a
                statistics file, `carrara.evaluation.reference`
    value       n samples against the reference
    floor       n real pictures the model never saw, from the held-out split, against the reference
    ceiling     n pictures of uniform noise against the reference

with the same n for all three: the number of samples, or of held-out pictures where these are fewer. A perfect model
scores about the floor. So does one that repeats its training pictures: `neighbours` looks for that. How far chance in the
samples moves the value, and what it would be with infinitely many, `uncertainty` finds from the same features.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.cache import Key, cache_folder, find, keep
from carrara.evaluation.features import Features, identity, load_features
from carrara.evaluation.frechet import Normal, caution, frechet_distance
from carrara.evaluation.inputs import Counter, Progress, checked_samples, shuffled
from carrara.evaluation.reference import Reference
from carrara.evaluation.statistics import Moments
from carrara.evaluation.streaming import Pictures, Selected, features_of, moments_of
from carrara.evaluation.uncertainty import PARTS, estimate

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
    reference_n: int | None
    """None where a statistics file does not say."""
    dataset: str
    features: str
    sha256: str
    resizer: str
    caution: str | None = None
    """What must be said of a distance of so few pictures; None where there are more than features."""
    low: float | None = None
    """`value` lies between low and high with 95 % confidence, were the samples drawn again; None where nobody asked."""
    high: float | None = None
    infinite: float | None = None
    """What `value` would be with infinitely many samples, against the same reference; as uncertain as `value` is."""
    infinite_caution: str | None = None
    """What must be said of `infinite`; None where there is nothing."""

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        chosen = f", the first of {self.given} samples" if self.given > self.n else ""
        warned = f"; {self.caution}" if self.caution else ""
        interval = "" if self.low is None or self.high is None else f"{_short(self.low)} to {_short(self.high)}, "
        return (
            f"Fréchet {_short(self.value)} ({interval}floor {_short(self.floor)}, ceiling {_short(self.ceiling)}; "
            f"n = {self.n}{chosen}, reference {self.reference}, {self.features}, {self.resizer}){warned}"
        )


def _short(distance: float) -> str:
    return f"{distance:.0f}" if distance >= 100 else f"{distance:.3g}"


@dataclass(frozen=True)
class Yardstick:
    """A dataset's reference, floor and ceiling for sets of n pictures: made once, it measures many sets."""

    shape: tuple[int, ...]
    features: Features
    normal: Normal
    floor: float
    ceiling: float
    n: int
    reference: str
    reference_n: int | None
    dataset: str
    folder: Path
    """Where features are kept."""

    def measure(self, samples: Tensor, progress: Progress | None = None) -> Frechet:
        """The Fréchet of the first n of uint8 samples (N, C, H, W); InputError when fewer or of another shape."""
        samples = checked_samples(samples, self.shape, at_least=self.n)
        return self._measured(samples, Counter(self.n, progress))

    def _measured(self, samples: Tensor, counter: Counter, interval: bool = False) -> Frechet:
        moments = _moments(samples[: self.n], self.features, self.folder, counter)
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
            caution=caution(min(self.n, self.reference_n or self.n), self.features.dim),
            **(self._chance(samples[: self.n]) if interval and self.n >= 2 * PARTS else {}),
        )

    def _chance(self, samples: Tensor) -> dict[str, Any]:
        """What chance does to the value, and what it is at infinite n. The features are in memory, 4 n dim bytes."""
        found = estimate(features_of(samples, self.features, cache=self.folder), self.normal)
        low, high = found.around(found.value)
        return {
            "low": low,
            "high": high,
            "infinite": found.infinite,
            "infinite_caution": found.caution,
        }


def frechet(
    samples: Tensor,
    dataset: Dataset,
    features: Features | str = "efficientnet",
    *,
    reference_n: int | None = REFERENCE_N,
    reference: Path | None = None,
    interval: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Frechet:
    """The Fréchet distance of samples from a dataset, with its floor and ceiling at the same n.

    `samples` are uint8 (N, C, H, W) of the dataset's shape, N ≥ 2; `features` is a kind in FEATURES, a dotted path or
    the object; `reference_n` limits the reference (None: all of the training split); `reference` is a
    statistics file to measure against in its place; `interval` adds what chance in the
    samples does, and the value at infinite n, where there are 6 of them or more: 8 seconds for 1000 samples of 1280 features
    on one core. Features, and what is computed from real ones, are kept in the folder `cache` (None: the user's cache folder).
    Raises InputError on other samples or fewer than two pictures, or a file of other features, NonFinite when features are.
    """
    samples = checked_samples(samples, dataset.shape, at_least=2)
    surveyor = _Surveyor.of(dataset, features, reference_n, cache, reference)
    n = min(len(samples), len(dataset.heldout))
    counter = Counter(surveyor.work(n) + n, progress)
    return surveyor.yardstick(n, counter)._measured(samples, counter, interval)


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
    return surveyor.moments(Counter(surveyor.reference_n, progress)), surveyor.described()


@dataclass(frozen=True)
class _Surveyor:
    """Makes the yardsticks of one dataset with one set of features."""

    dataset: Dataset
    features: Features
    reference_n: int
    folder: Path
    given: Reference | None = None
    """What stands in place of training pictures."""

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        features: Features | str,
        reference_n: int | None,
        cache: Path | None,
        reference: Path | None = None,
    ) -> _Surveyor:
        available = len(dataset.train)
        size = available if reference_n is None else min(reference_n, available)
        if size < 2:
            raise InputError(f"the reference needs at least 2 training pictures; got {size} of {available}.")
        loaded = load_features(features) if isinstance(features, str) else features
        given = None if reference is None else Reference.read(reference, loaded)
        return cls(dataset, loaded, size, cache or cache_folder(), given)

    def work(self, n: int) -> int:
        """How many pictures a yardstick passes through the network when nothing is cached."""
        return (0 if self.given else self.reference_n) + 2 * n

    def yardstick(self, n: int, counter: Counter) -> Yardstick:
        if n < 2:
            raise InputError(
                f"a Fréchet distance needs at least 2 pictures on each side; got n = {n} "
                f"({self.dataset.name} has {len(self.dataset.heldout)} held-out pictures)."
            )
        normal = self.given.normal if self.given else Normal.of(self.moments(counter))
        floor, ceiling = self._bounds(normal, n, counter)
        return Yardstick(
            shape=self.dataset.shape,
            features=self.features,
            normal=normal,
            floor=floor,
            ceiling=ceiling,
            n=n,
            reference=str(self.given) if self.given else self.described(),
            reference_n=self.given.n if self.given else self.reference_n,
            dataset=self.dataset.name,
            folder=self.folder,
        )

    def moments(self, counter: Counter) -> Moments:
        """The Moments of the reference."""
        key = self._key("reference")
        kept = find(key, self.folder)
        if kept is not None:
            counter.advance(self.reference_n)
            return Moments.of(self.reference_n, kept["mean"], kept["cov"])
        moments = _moments(training(self.dataset, self.reference_n), self.features, self.folder, counter)
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
        real = _moments(heldout(self.dataset, n), self.features, self.folder, counter)
        blind = _moments(noise(self.dataset, n), self.features, self.folder, counter)
        floor, ceiling = (frechet_distance(side, reference) for side in (real, blind))
        keep(key, {"floor": _scalar(floor), "ceiling": _scalar(ceiling)}, self.folder)
        return floor, ceiling

    def _key(self, what: str, **more: int) -> Key:
        against: Key = {"file": self.given.sha256} if self.given else {"reference_n": self.reference_n}
        return {
            "what": what,
            "protocol": 1,
            "dataset": self.dataset.fingerprint,
            **identity(self.features),
            **against,
            **more,
        }

    def described(self) -> str:
        """Which pictures the reference is."""
        available = len(self.dataset.train)
        limited = f"{self.reference_n} of {available}" if self.reference_n < available else f"all {available}"
        return f"{limited} training images"


def training(dataset: Dataset, n: int) -> Selected:
    """n training pictures, the first in a fixed shuffled order: what samples are measured against."""
    return Selected(dataset.train.pictures, shuffled(len(dataset.train), n))


def heldout(dataset: Dataset, n: int) -> Selected:
    """n pictures that no model was trained on, the first in a fixed shuffled order: the floor's."""
    return Selected(dataset.heldout.pictures, shuffled(len(dataset.heldout), n))


def noise(dataset: Dataset, n: int) -> Tensor:
    """n pictures of uniform noise, uint8 (n, C, H, W), always the same: the ceiling's."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, *dataset.shape), dtype=torch.uint8, generator=rng)


def _moments(pictures: Pictures, features: Features, folder: Path, counter: Counter) -> Moments:
    start = counter.done
    return moments_of(
        pictures,
        features,
        cache=folder,
        progress=lambda done, _: counter.advance(start + done - counter.done),
    )


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
