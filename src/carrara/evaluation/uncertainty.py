"""What a Fréchet distance would be with infinitely many pictures, and how far chance has moved it.

    bias     E d²(n) = d²(∞) + a / n + …: a small set is always too far away. A line through the distances of subsets of
             several sizes, against 1 / n, meets 0 at d²(∞).
    chance   other samples of the same model give another distance. The bootstrap draws them from the ones there are.

Each subset size n / k is measured on k parts that together are all of the pictures, in an order that never changes. Of what
chance does to the mean of the parts, the greatest share is then the same at every size; so the line carries it unchanged to
1 / n = 0, and d²(∞) is to first order as uncertain as d²(n) is. One bootstrap serves both.

Where a part has fewer pictures than features the bias is no line in 1 / n: some of it is left, and results say so. Measured
on InceptionV3's features of two sets of 2400 real pictures: 15.3, and 5.3 at infinite n of both, where 0 is right.

Sources: Effectively Unbiased FID and Inception Score and where to find them, Chong and Forsyth, 2020 (with random subsets).
An Introduction to the Bootstrap, Efron and Tibshirani, 1993, chapter 13.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist, fmean

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.frechet import Normal, caution, checked_features
from carrara.evaluation.inputs import shuffled

PARTS = 3
REPLICATES = 100
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Against:
    """Features (N, dim) as a reference sees them: the distance of any weighting of the rows costs no more than it must.

    In the frame of the reference's factor K the rows are (N, rank); the singular values that the distance needs are found
    from the smaller Gram matrix, rows × rows or rank × rank.
    """

    centred: Tensor
    """The rows less the reference's mean, (N, dim) float64."""
    seen: Tensor
    """Those in the frame of the factor, (N, rank)."""
    squares: Tensor
    """Their squared lengths, (N,)."""
    reference: Normal

    @classmethod
    def of(cls, features: Tensor, reference: Normal) -> Against:
        """The features (N, dim), N ≥ 2, against a reference; InputError for fewer or another dim, NonFinite on NaN."""
        features = checked_features(features)
        if features.shape[1] != len(reference.mean):
            raise InputError(
                f"features of {features.shape[1]} and of {len(reference.mean)} dimensions cannot be compared: "
                "use one network for both."
            )
        centred = features - reference.mean
        return cls(centred, centred @ reference.factor, centred.square().sum(1), reference)

    def distance(self, weights: Tensor) -> float:
        """The Fréchet distance of the set in which row i is `weights[i]` times, (N,), at least 2 rows in all."""
        rows = weights.nonzero().squeeze(1)
        counts = weights[rows].double()
        n = float(counts.sum())
        mean = counts @ self.centred[rows] / n
        trace = (float(counts @ self.squares[rows]) - n * float(mean @ mean)) / (n - 1)
        spread = (self.seen[rows] - mean @ self.reference.factor) * (counts / (n - 1)).sqrt()[:, None]
        own = float(self.reference.factor.square().sum())
        return max(0.0, float(mean @ mean) + trace + own - 2 * nuclear_norm(spread))


def nuclear_norm(matrix: Tensor) -> float:
    """The sum of the singular values of a float64 matrix, to about 1e-7 of the largest for each."""
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float(torch.linalg.eigvalsh(short @ short.T).clamp_min(0).sqrt().sum())


@dataclass(frozen=True)
class Extrapolation:
    """d² at 1 / n = 0, which may be below 0 by chance, with the line through the sizes and distances it was found by."""

    value: float
    slope: float
    sizes: tuple[float, ...]
    distances: tuple[float, ...]


def at_infinity(features: Tensor, reference: Normal | Tensor, parts: int = PARTS) -> Extrapolation:
    """The distance of infinitely many pictures, from features (N, dim), N ≥ 2 · parts ≥ 4.

    Against a Normal only the bias of the samples goes. Given the reference's features (M, dim) instead, each part is
    measured against as small a part of those, and the bias of both sets goes. Raises InputError for fewer rows.
    """
    if parts < 2:
        raise InputError(f"a line through distances needs at least 2 sizes; got {parts}")
    sets = [features] if isinstance(reference, Normal) else [features, reference]
    for rows in sets:
        if len(rows) < 2 * parts:
            raise InputError(f"{parts} parts of at least 2 pictures need {2 * parts} pictures; got {len(rows)}")
    n = len(features)
    measure = _fixed(features, reference) if isinstance(reference, Normal) else _paired(features, reference)
    distances = [fmean(measure(count)) for count in range(1, parts + 1)]
    slope, value = _line([count / n for count in range(1, parts + 1)], distances)
    return Extrapolation(value, slope, tuple(n / count for count in range(1, parts + 1)), tuple(distances))


def _fixed(features: Tensor, reference: Normal) -> Callable[[int], list[float]]:
    """count -> the distances of so many parts of the features from one reference."""
    against = Against.of(features, reference)
    order = torch.from_numpy(shuffled(len(features)))

    def measure(count: int) -> list[float]:
        parts = order.tensor_split(count)
        return [against.distance(torch.zeros(len(order)).index_fill_(0, part, 1)) for part in parts]

    return measure


def _paired(features: Tensor, others: Tensor) -> Callable[[int], list[float]]:
    """count -> the distances of so many parts of the features from as many parts of the others."""
    features, others = (checked_features(rows)[torch.from_numpy(shuffled(len(rows)))] for rows in (features, others))

    def measure(count: int) -> list[float]:
        pairs = zip(features.tensor_split(count), others.tensor_split(count), strict=True)
        return [Against.of(a, Normal.of_features(b)).distance(torch.ones(len(a))) for a, b in pairs]

    return measure


def _line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Slope and value at 0 of the least-squares line."""
    mean_x, mean_y = fmean(x), fmean(y)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slope = rise / sum((a - mean_x) ** 2 for a in x)
    return slope, mean_y - slope * mean_x


def bootstrap(
    features: Tensor, reference: Normal, replicates: int = REPLICATES, seed: int = 0
) -> tuple[float, tuple[float, ...]]:
    """The distance of features (N, dim), N ≥ 2, from a reference, and those of sets drawn from them with replacement.

    The reference stands still: what is found is the chance in the samples. Draws repeat rows, so every replicate is further
    away than the set; only their spread speaks. Raises InputError for fewer than 2 rows or replicates.
    """
    if replicates < 2:
        raise InputError(f"a bootstrap needs at least 2 replicates; got {replicates}")
    against = Against.of(features, reference)
    n = len(features)
    rng = torch.Generator().manual_seed(seed)
    drawn = (torch.bincount(torch.randint(n, (n,), generator=rng), minlength=n) for _ in range(replicates))
    return against.distance(torch.ones(n)), tuple(against.distance(weights) for weights in drawn)


@dataclass(frozen=True)
class Estimate:
    """A Fréchet distance with its value at infinite n and the interval chance leaves it; `as_dict()` is for JSON."""

    value: float
    """d² of the n pictures, as the field reports it: higher than at infinite n."""
    infinite: float
    low: float
    high: float
    """`infinite` lies between these with probability `level`, were the samples drawn again."""
    deviation: float
    """The standard deviation of `value`, and to first order of `infinite`, over draws of the samples."""
    level: float
    replicates: int
    n: int
    dim: int
    caution: str | None

    def around(self, value: float) -> tuple[float, float]:
        """The same interval about `value`, the distance of the n pictures; from 0 on, as no distance is below."""
        reach = (self.high - self.low) / 2
        return max(0.0, value - reach), value + reach

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        warned = f"; {self.caution}" if self.caution else ""
        return (
            f"{self.value:.4g} at n = {self.n}, {self.infinite:.4g} at infinite n "
            f"({self.level:.0%} interval {self.low:.4g} to {self.high:.4g}, {self.replicates} bootstraps){warned}"
        )


def estimate(
    features: Tensor,
    reference: Normal | Tensor,
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    parts: int = PARTS,
    seed: int = 0,
) -> Estimate:
    """The Estimate of features (N, dim) against a reference, a Normal or features (M, dim); N ≥ 2 · parts.

    Given the reference's features, the bias of both sets is taken away; the interval is of the chance in the samples alone.
    """
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1; got {level}")
    line = at_infinity(features, reference, parts)
    normal = reference if isinstance(reference, Normal) else Normal.of_features(reference)
    value, drawn = bootstrap(features, normal, replicates, seed)
    deviation = float(torch.tensor(drawn, dtype=torch.float64).std())
    reach = NormalDist().inv_cdf((1 + level) / 2) * deviation
    n, dim = features.shape
    ends = (line.value - reach, line.value + reach)
    return Estimate(value, line.value, *ends, deviation, level, replicates, n, dim, _caution(n, dim, parts))


def _caution(n: int, dim: int, parts: int) -> str | None:
    """What must be said where the smallest parts, or the whole, have too few pictures."""
    if n > parts * dim:
        return None
    left = f"parts of {n // parts} pictures in {dim} dimensions leave some of the bias at infinite n"
    said = caution(n, dim)
    return f"{said}; {left}" if said else left
