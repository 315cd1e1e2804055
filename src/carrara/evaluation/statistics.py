"""Mean and covariance of features that arrive in batches."""

from __future__ import annotations

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite


class Moments:
    """The count, mean and covariance of all features seen so far, in float64.

    Two sets a and b of n_a and n_b rows with the difference d of their means, and with scatters
    S = Σ (x − mean)(x − mean)ᵀ, join as

        mean = mean_a + d n_b / n        S = S_a + S_b + d dᵀ n_a n_b / n        n = n_a + n_b

    so nothing large is ever subtracted, and how the rows were split into batches does not matter.
    Source: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, Chan, Golub and LeVeque, 1979.
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @classmethod
    def of(cls, n: int, mean: Tensor, cov: Tensor) -> Moments:
        """The Moments that have this count, mean (dim,) and covariance (dim, dim)."""
        if cov.shape != (len(mean), len(mean)):
            raise InputError(f"a mean {tuple(mean.shape)} needs a square covariance; got {tuple(cov.shape)}.")
        moments = cls(len(mean))
        moments.n = n
        moments.mean = mean.double()
        moments._scatter = cov.double() * (n - 1)
        return moments

    @property
    def dim(self) -> int:
        """The length of a feature vector."""
        return len(self.mean)

    @property
    def cov(self) -> Tensor:
        """The unbiased covariance (dim, dim), float64; InputError with fewer than two rows."""
        if self.n < 2:
            raise InputError(f"a covariance needs at least 2 feature vectors; got {self.n}.")
        return self._scatter / (self.n - 1)

    def update(self, features: Tensor) -> None:
        """Take in features (B, dim). Raises InputError on another shape, NonFinite on NaN or infinity."""
        rows = self._checked(features).double()
        if len(rows):
            mean = rows.mean(0)
            centred = rows - mean
            self._scatter.addmm_(centred.T, centred)
            self._shift(len(rows), mean)

    def merge(self, other: Moments) -> None:
        """Take in all that `other` has seen. Raises InputError when the lengths differ."""
        if other.dim != self.dim:
            raise InputError(f"moments of {other.dim}-d features cannot join those of {self.dim}-d ones.")
        if other.n:
            self._scatter.add_(other._scatter)
            self._shift(other.n, other.mean)

    def _shift(self, n: int, mean: Tensor) -> None:
        delta = mean - self.mean
        total = self.n + n
        self._scatter.addr_(delta, delta, alpha=self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total

    def _checked(self, features: Tensor) -> Tensor:
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(f"features must have the shape (B, {self.dim}); got {tuple(features.shape)}.")
        if not torch.isfinite(features).all():
            raise NonFinite("features hold NaN or infinity: the network that made them, or its input, is broken.")
        return features
