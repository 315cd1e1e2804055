"""Data whose denoiser is known exactly: the judge of samplers, losses and likelihoods.

For a mixture of isotropic Gaussians every noisy law q(x_t) is again such a mixture, so the best belief about x0 is a formula.
For a few tokens the probability of every sequence fits into a table, and what is believed of a hidden one is a sum over it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.beliefs import Point, Tokens
from carrara.denoisers import Cond
from carrara.errors import InputError
from carrara.masking import Masked
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


@dataclass(frozen=True)
class TokenTable:
    """The probability of every sequence of L tokens, of K kinds: a table of L axes, each of size K."""

    p: Tensor
    """(K,) · L, float64, sum 1. Raises InputError for what is no such table."""

    def __post_init__(self) -> None:
        whole = self.p.ndim > 0 and len(set(self.p.shape)) == 1 and bool((self.p >= 0).all())
        if not whole or not math.isclose(float(self.p.sum()), 1, abs_tol=1e-9):
            raise InputError(
                f"the table of shape {tuple(self.p.shape)} is no law of tokens: it needs an axis of the same size for each "
                "position, no negative numbers and the sum 1"
            )

    @property
    def length(self) -> int:
        """L."""
        return self.p.ndim

    @property
    def vocab(self) -> int:
        """K."""
        return self.p.shape[0]

    @property
    def entropy(self) -> float:
        """In nats a sequence."""
        return float(torch.special.entr(self.p).sum())

    def log_prob(self, x: Tensor) -> Tensor:
        """log p, (B,) for x int64 (B, L)."""
        return self.p[tuple(x.T)].log()

    def every(self) -> Tensor:
        """All sequences, int64 (K^L, L), in the order of the flattened table."""
        return torch.cartesian_prod(*[torch.arange(self.vocab)] * self.length).reshape(-1, self.length)

    def sample(self, rng: Streams) -> Tensor:
        """int64 (B, L) draws, row i from stream i."""
        reached = self.p.double().flatten().cumsum(0)
        return self.every()[
            torch.searchsorted(reached, rng.uniform() * reached[-1], right=True).clamp(max=self.p.numel() - 1)
        ]

    def marginals(self, x_t: Tensor) -> Tensor:
        """p(x0_i = k | what shows in x_t), float64 (B, L, K) for x_t int64 (B, L), K being the mask.

        Where what shows is impossible, every token of the rest is as likely as another.
        """
        seen = torch.nn.functional.one_hot(x_t, self.vocab + 1).double()
        fits = torch.where((x_t == self.vocab)[..., None], 1.0, seen[..., : self.vocab])
        joint = torch.ones((len(x_t), *self.p.shape), dtype=torch.float64)
        for i in range(self.length):
            joint = joint * fits[:, i].reshape(len(x_t), *[1] * i, self.vocab, *[1] * (self.length - 1 - i))
        possible = (joint * self.p).flatten(1).sum(1) > 0
        joint = torch.where(possible.reshape(-1, *[1] * self.length), joint * self.p, joint)
        each = [joint.sum([j + 1 for j in range(self.length) if j != i]) for i in range(self.length)]
        return torch.stack([part / part.sum(1, keepdim=True) for part in each], 1)


class TableDenoiser:
    """The exact belief about each hidden token when the data's law is a table."""

    def __init__(self, table: TokenTable, process: Masked) -> None:
        self.table, self.process = table, process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Tokens:
        """Tokens(log p(x0_i | what shows in x_t)), float64, for x_t (B, L); it does not depend on t."""
        return Tokens(self.table.marginals(x_t).log())
