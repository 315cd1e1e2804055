"""The Fréchet distance between two Gaussians.

    d² = |m_a − m_b|² + tr A + tr B − 2 tr (A^½ B A^½)^½

With any factors A = L Lᵀ and B = K Kᵀ the last trace is the sum of the singular values of Lᵀ K. Computed so, no
product of covariances is formed and no root is taken of its rounding errors: a set's distance to itself is 0 to
rounding even when the covariances are singular, as they are with fewer pictures than features.

Source: The Fréchet Distance between Multivariate Normal Distributions, Dowson and Landau, 1982, equation 16.
As a distance between sets of pictures: Heusel et al., 2017. What the field calls FID is d², not d; so is this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation.statistics import Moments


@dataclass(frozen=True)
class Normal:
    """A mean (dim,) and a factor L (dim, rank) of the covariance L Lᵀ, in float64."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Normal:
        """The Normal with these moments; reuse it to measure many sets against one."""
        return cls.with_covariance(moments.mean, moments.cov)

    @classmethod
    def with_covariance(cls, mean: Tensor, cov: Tensor) -> Normal:
        """The Normal with this mean (dim,) and covariance (dim, dim), both float64."""
        values, vectors = torch.linalg.eigh(cov)
        # What is below the rounding of the largest eigenvalue is no direction of the data.
        real = values > values[-1] * len(mean) * torch.finfo(values.dtype).eps
        return cls(mean, vectors[:, real] * values[real].sqrt())

    @classmethod
    def of_features(cls, features: Tensor) -> Normal:
        """The Normal with the moments of features (N, dim), N ≥ 2, found without their covariance.

        Raises InputError for fewer, NonFinite where they are not finite.
        """
        features = checked_features(features)
        mean = features.mean(0)
        rows = (features - mean) / (len(features) - 1) ** 0.5
        # The rows are a factor themselves; where there are more of them than features, R of their QR is a smaller one.
        return cls(mean, rows.T if len(rows) <= len(mean) else torch.linalg.qr(rows, mode="r").R.T)


def frechet_distance(a: Moments | Normal, b: Moments | Normal) -> float:
    """The Fréchet distance d² ≥ 0 between two Gaussians, in squared units of the features.

    Raises InputError when the dimensions differ or a covariance has fewer than two rows behind it.
    """
    a, b = (Normal.of(side) if isinstance(side, Moments) else side for side in (a, b))
    if len(a.mean) != len(b.mean):
        raise InputError(
            f"features of {len(a.mean)} and of {len(b.mean)} dimensions cannot be compared: use one network for both."
        )
    means = (a.mean - b.mean).square().sum()
    traces = a.factor.square().sum() + b.factor.square().sum()
    overlap = torch.linalg.svdvals(a.factor.T @ b.factor).sum()
    return max(0.0, float(means + traces - 2 * overlap))


def caution(n: int, dim: int) -> str | None:
    """What must be said of a distance of n pictures in dim dimensions; None where there are enough of them."""
    if n > dim:
        return None
    return f"n = {n} is not above the {dim} features: the covariance is singular, compare at this n only"


def checked_features(features: Tensor) -> Tensor:
    """Float64 features (N, dim), N ≥ 2; otherwise InputError, NonFinite where they are not finite."""
    if features.ndim != 2 or len(features) < 2:
        raise InputError(f"features must have the shape (N, dim) with N at least 2; got {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise NonFinite("features hold NaN or infinity: the network that made them, or its input, is broken")
    return features.detach().cpu().double()
