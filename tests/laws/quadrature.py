"""Integrals over one dimension, and the normal law in the books' own symbols: what the page of mathematics is checked with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from toys import F64

from carrara.analytic import GaussianMixture
from carrara.schedules import Schedule


def normal(mean: Tensor | float, variance: Tensor | float) -> GaussianMixture:
    """N(mean, variance) on the line."""
    return GaussianMixture(
        torch.as_tensor(mean, dtype=F64).reshape(1, 1),
        torch.as_tensor(variance, dtype=F64).reshape(1),
        torch.ones(1, dtype=F64),
    )


def on_a_line() -> GaussianMixture:
    """Three Gaussians on the line, of unlike widths and weights."""
    return GaussianMixture(
        torch.tensor([[-1.2], [0.4], [1.5]], dtype=F64),
        torch.tensor([0.1, 0.3, 0.05], dtype=F64),
        torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    )


def log_prob(law: GaussianMixture, x: Tensor) -> Tensor:
    """log density at each number of x, of x's shape."""
    return law.log_prob(x.reshape(-1, 1)).reshape(x.shape)


def log_normal(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """log N(x; mean, variance), elementwise."""
    variance = torch.as_tensor(variance, dtype=F64)
    return -0.5 * ((x - mean) ** 2 / variance + (2 * torch.pi * variance).log())


def divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(other_mean, other_variance)), elementwise, in nats."""
    ratio = variance / other_variance
    return 0.5 * (ratio - 1 - ratio.log() + (mean - other_mean) ** 2 / other_variance)


def gauss(f: Callable[[Tensor], Tensor], low: float, high: float, cells: int = 200) -> Tensor:
    """∫ f(x) dx from low to high over the last axis of f's values: 6 Gauss–Legendre nodes in each of equal cells."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(6))
    half = (high - low) / cells / 2
    middle = low + half * (2 * torch.arange(cells, dtype=F64) + 1)
    x = (middle[:, None] + half * nodes).flatten()
    return (f(x) * (half * weights).repeat(cells)).sum(-1)


def expected(f: Callable[[Tensor], Tensor]) -> Tensor:
    """E f(z) for z standard normal, over the last axis: Gauss–Hermite with 12 nodes, exact for polynomials to degree 23."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(12))
    return (f(nodes) * weights).sum(-1) / weights.sum()


def drift_and_diffusion(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """(f, g²) of the forward SDE dx = f x dt + g dw: alpha′ / alpha and sigma² times the rate of logsnr."""
    return schedule.alpha_dot(t) / schedule.alpha(t), schedule.sigma(t) ** 2 * schedule.rate(t)


def rate_of(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """df/dt by automatic differentiation."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad(f(t).sum(), t)[0]
