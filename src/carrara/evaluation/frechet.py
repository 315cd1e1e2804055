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

from carrara.errors import InputError
from carrara.evaluation.statistics import Moments


@dataclass(frozen=True)
class Normal:
    """A mean (dim,) and a factor L (dim, rank) of the covariance L Lᵀ, in float64."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Normal:
        """The Normal with these moments; reuse it to measure many sets against one."""
        values, vectors = torch.linalg.eigh(moments.cov)
        # What is below the rounding of the largest eigenvalue is no direction of the data.
        real = values > values[-1] * moments.dim * torch.finfo(values.dtype).eps
        return cls(moments.mean, vectors[:, real] * values[real].sqrt())


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
