"""Kernel distances: two sets of pictures compared by all their pairs, with no shape assumed for either.

    MMD² = mean k(x, x') + mean k(y, y') − 2 mean k(x, y)

over pairs of two *different* pictures of one set is unbiased: for two sets of one law its mean is 0, whatever n, and
it may fall below 0. That is what a Fréchet distance lacks, which falls as n grows. With each picture's pair with
itself left in, it is biased upwards by about (2/n) (k(x, x) − mean k(x, x')), and never negative.

    KID     k = (x·y / dim + 1)³                    Demystifying MMD GANs, Bińkowski et al., 2018, section 4
    CMMD    k = exp(−|x − y|² / (2 · 10²)), × 1000  Rethinking FID: Towards a Better Evaluation Metric for Image
            on embeddings of length 1               Generation, Jayasumana et al., 2024, section 4

The estimators are equations 3 and 5 of A Kernel Two-Sample Test, Gretton et al., 2012. Their standard error is the
jackknife's: every picture left out once. It errs on the wide side in the mean (The Jackknife Estimate of Variance,
Efron and Stein, 1981), up to √2 times where the sets are of one law. All is computed in float64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError, NonFinite
from carrara.evaluation.inputs import Counter, Progress, batches

Kernel = Callable[[Tensor, Tensor], Tensor]
"""The kernel (…, N, M) of all pairs of rows of (…, N, dim) and (…, M, dim)."""

SUBSETS = 100
SUBSET_N = 1000
SIGMA = 10.0
SCALE = 1000.0
CHUNK_VALUES = 4_000_000
"""Kernel values held at a time."""


@dataclass(frozen=True)
class KernelDistance:
    """A squared kernel distance of n pictures from `reference_n`; `as_dict()` is for JSON."""

    name: str
    """KID or CMMD."""
    value: float
    """The unbiased estimate; near 0, and below it half of the time, for sets of one law."""
    error: float | None
    """The standard error of `value` over draws of both sets; None where a set has only two pictures."""
    biased: float
    """The estimate with each picture's pair with itself, at least 0 but for rounding: what CMMD's own code prints."""
    n: int
    reference_n: int
    kernel: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where `value` lies with 95 % confidence, 1.96 standard errors to each side."""
        return None if self.error is None else (self.value - 1.96 * self.error, self.value + 1.96 * self.error)

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        wide = "" if self.error is None else f" ± {self.error:.2g}"
        return (
            f"{self.name} {self.value:.4g}{wide} ({self.kernel}, n = {self.n} against {self.reference_n}, unbiased)"
        )


@dataclass(frozen=True)
class SubsetKid:
    """KID over random subsets, as it is commonly printed: `mean` ± `spread`."""

    mean: float
    spread: float
    """The standard deviation over the subsets, divided by their number and not one less. It is no error of the mean."""
    error: float
    """spread / √subsets: how far another choice of subsets of these same pictures would move the mean."""
    subsets: int
    size: int
    n: int
    reference_n: int

    def as_dict(self) -> dict[str, int | float]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return (
            f"KID {self.mean:.4g} ± {self.spread:.2g} (over {self.subsets} subsets of {self.size}; "
            f"n = {self.n} against {self.reference_n})"
        )


def kid(samples: Tensor, real: Tensor, *, progress: Progress | None = None) -> KernelDistance:
    """The kernel distance KID of features (N, dim) from real ones (M, dim), over all pairs; N, M ≥ 2.

    In the features' own units; many print it times 1000. Progress counts kernel values.
    Raises InputError on other shapes or lengths, NonFinite on NaN or infinity.
    """
    return _distance(samples, real, cubic, ("KID", "(x·y / dim + 1)³"), progress)


def subset_kid(
    samples: Tensor,
    real: Tensor,
    *,
    subsets: int = SUBSETS,
    size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SubsetKid:
    """KID as usually published: the mean of the unbiased estimate over `subsets` pairs of random subsets.

    Each has `size` pictures, drawn without replacement (None: 1000, or all of the smaller set where it has fewer).
    Its mean is that of `kid` over all pairs, its noise greater. Progress counts subsets. Raises as `kid`, and
    InputError on a size outside 2 to the smaller set's, or fewer than one subset.
    """
    samples, real = _checked(samples, real)
    most = min(len(samples), len(real))
    size = min(SUBSET_N, most) if size is None else size
    if subsets < 1 or not 2 <= size <= most:
        raise InputError(
            f"KID over {subsets} subsets of {size} pictures cannot be had from {len(samples)} and {len(real)}: "
            f"give 1 subset or more, of 2 to {most} pictures."
        )
    rng, counter = torch.Generator().manual_seed(seed), Counter(subsets, progress)
    values = torch.tensor(
        [_of_subset(samples, real, size, rng, counter) for _ in range(subsets)], dtype=torch.float64
    )
    spread = float(values.std(correction=0))
    return SubsetKid(
        mean=float(values.mean()),
        spread=spread,
        error=spread / math.sqrt(subsets),
        subsets=subsets,
        size=size,
        n=len(samples),
        reference_n=len(real),
    )


def cmmd(samples: Tensor, real: Tensor, *, progress: Progress | None = None) -> KernelDistance:
    """The kernel distance CMMD, times 1000, of embeddings (N, D) from real ones (M, D); N, M ≥ 2.

    Rows are brought to length 1 first. Published figures are its `biased`, of embeddings of CLIP ViT-L/14 at 336
    pixels; those of another network are comparable among themselves. Raises as `kid`, and on a row of zeros.
    """
    samples, real = (_unit(side) for side in _checked(samples, real))
    names = ("CMMD", f"{SCALE:g} exp(−|x − y|² / {2 * SIGMA**2:g})")
    return _distance(samples, real, gaussian, names, progress)


def cubic(a: Tensor, b: Tensor) -> Tensor:
    """(a·b / dim + 1)³ of all pairs of rows."""
    return (a @ b.mT / a.shape[-1] + 1) ** 3


def gaussian(a: Tensor, b: Tensor) -> Tensor:
    """1000 exp(−|a − b|² / 200) of all pairs of rows of length 1, where |a − b|² = 2 − 2 a·b."""
    return SCALE * torch.exp((a @ b.mT - 1) / SIGMA**2)


@dataclass(frozen=True, eq=False)
class _Within:
    """A set's kernel with itself: for each picture the sum over all others (N,), and its value with itself (N,)."""

    others: Tensor
    itself: Tensor

    @classmethod
    def of(cls, rows: Tensor, kernel: Kernel, counter: Counter) -> _Within:
        itself = kernel(rows[:, None], rows[:, None]).flatten()
        return cls(_sums(rows, rows, kernel, counter)[0] - itself, itself)

    @property
    def unbiased(self) -> float:
        n = len(self.others)
        return float(self.others.sum()) / (n * (n - 1))

    @property
    def biased(self) -> float:
        return float((self.others + self.itself).sum()) / len(self.others) ** 2

    def without_each(self) -> Tensor:
        """The unbiased mean with each picture left out in turn, (N,), N ≥ 3."""
        n = len(self.others)
        return (self.others.sum() - 2 * self.others) / ((n - 1) * (n - 2))


def _distance(
    a: Tensor, b: Tensor, kernel: Kernel, names: tuple[str, str], progress: Progress | None
) -> KernelDistance:
    """The KernelDistance of two sets; `names` are its own and its kernel's."""
    a, b = _checked(a, b)
    counter = Counter(len(a) ** 2 + len(b) ** 2 + len(a) * len(b), progress)
    mine, theirs = (_Within.of(side, kernel, counter) for side in (a, b))
    rows, columns = _sums(a, b, kernel, counter)
    between = float(rows.sum()) / (len(a) * len(b))
    return KernelDistance(
        name=names[0],
        value=mine.unbiased + theirs.unbiased - 2 * between,
        error=_error(mine, theirs, rows, columns),
        biased=mine.biased + theirs.biased - 2 * between,
        n=len(a),
        reference_n=len(b),
        kernel=names[1],
    )


def _error(mine: _Within, theirs: _Within, rows: Tensor, columns: Tensor) -> float | None:
    """The jackknife's standard error over both sets, from the sums (N,) and (M,) of the kernel between them."""
    if min(len(rows), len(columns)) < 3:
        return None
    variance = 0.0
    for side, sums, others in ((mine, rows, len(columns)), (theirs, columns, len(rows))):
        n = len(sums)
        without = side.without_each() - 2 * (sums.sum() - sums) / ((n - 1) * others)
        variance += (n - 1) * float(without.var(correction=0))
    return math.sqrt(variance)


def _sums(a: Tensor, b: Tensor, kernel: Kernel, counter: Counter) -> tuple[Tensor, Tensor]:
    """The sums (N,) over b, and (M,) over a, of the kernel of rows (N, dim) and (M, dim)."""
    rows, columns = [], torch.zeros(len(b), dtype=torch.float64)
    for part in batches(a, max(1, CHUNK_VALUES // len(b))):
        values = kernel(part, b)
        rows.append(values.sum(1))
        columns += values.sum(0)
        counter.advance(values.numel())
    return torch.cat(rows), columns


def _of_subset(a: Tensor, b: Tensor, size: int, rng: torch.Generator, counter: Counter) -> float:
    mine, theirs = (side[torch.randperm(len(side), generator=rng)[:size]] for side in (a, b))
    counter.advance(1)
    return _distance(mine, theirs, cubic, ("", ""), None).value


def _checked(samples: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    for side, what in ((samples, "samples"), (real, "real pictures")):
        if side.ndim != 2 or len(side) < 2:
            raise InputError(
                f"a kernel distance needs features (N, dim) of at least 2 pictures on each side; "
                f"got {tuple(side.shape)} of {what}."
            )
        if not torch.isfinite(side).all():
            raise NonFinite(f"features of {what} hold NaN or infinity: the network that made them is broken.")
    if samples.shape[1] != real.shape[1]:
        raise InputError(
            f"features of {samples.shape[1]} and of {real.shape[1]} dimensions cannot be compared: "
            "use one network for both."
        )
    return samples.detach().cpu().double(), real.detach().cpu().double()


def _unit(rows: Tensor) -> Tensor:
    if not rows.any(dim=1).all():
        raise InputError("an embedding of zeros has no direction: the network that made it, or its input, is broken.")
    return F.normalize(rows, dim=1)
