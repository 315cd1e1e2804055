"""Data whose denoiser is known exactly: the judge of samplers, losses and likelihoods.

For a mixture of isotropic Gaussians every noisy law q(x_t) is again such a mixture, so the best belief about x0 is a formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.denoisers import Cond
from carrara.processes import Gaussian, like
from carrara.rng import Streams


@dataclass(frozen=True)
class GaussianMixture:
    """Σ_k weights_k · N(means_k, variances_k · I) in d dimensions."""

    means: Tensor
    """(K, d)"""
    variances: Tensor
    """(K,)"""
    weights: Tensor
    """(K,), sum 1"""

    def noisy(self, alpha: Tensor, sigma: Tensor) -> GaussianMixture:
        """The law of alpha · x + sigma · eps, for scalars alpha and sigma."""
        return GaussianMixture(alpha * self.means, alpha**2 * self.variances + sigma**2, self.weights)

    def joint_log_prob(self, x: Tensor) -> Tensor:
        """log(weights_k N(x; means_k, variances_k I)), (B, K) for x (B, d)."""
        square = (x[:, None] - self.means).square().sum(-1) / self.variances
        return self.weights.log() - 0.5 * (square + x.shape[1] * (2 * math.pi * self.variances).log())

    def log_prob(self, x: Tensor) -> Tensor:
        """log density in nats, (B,) for x (B, d)."""
        return self.joint_log_prob(x).logsumexp(-1)

    def sample(self, rng: Streams) -> Tensor:
        """(B, d) draws, in the dtype of the means, row i from stream i."""
        k = torch.searchsorted(self.weights.double().cumsum(0), rng.uniform()).clamp(max=len(self.weights) - 1)
        noise = rng.normal(self.means.shape[1:], dtype=self.means.dtype)
        return self.means[k] + self.variances[k, None].sqrt() * noise

    @property
    def mean(self) -> Tensor:
        """(d,)"""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """(d, d)"""
        centred = self.means - self.mean
        within = (self.weights @ self.variances) * torch.eye(len(self.mean), dtype=self.means.dtype)
        return within + torch.einsum("k,ki,kj->ij", self.weights, centred, centred)


class MixtureDenoiser:
    """The exact E[x0 | x_t] when the data is a Gaussian mixture."""

    def __init__(self, mixture: GaussianMixture, process: Gaussian) -> None:
        self.mixture, self.process = mixture, process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Point:
        """Point(E[x0 | x_t]) for x_t (B, d) at t, a scalar or (B,)."""
        schedule, mixture = self.process.schedule, self.mixture
        alpha, sigma = (like(f(t), x_t).reshape(-1, 1) for f in (schedule.alpha, schedule.sigma))
        variances = alpha**2 * mixture.variances + sigma**2  # (1 or B, K)
        away = x_t[:, None] - alpha[..., None] * mixture.means  # (B, K, d)
        joint = mixture.weights.log() - 0.5 * (away.square().sum(-1) / variances + x_t.shape[1] * variances.log())
        gain = alpha * mixture.variances / variances
        return Point((joint.softmax(-1)[..., None] * (mixture.means + gain[..., None] * away)).sum(1))
