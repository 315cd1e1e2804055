"""Mixtures of Gaussians whose probability-flow ODE is solved to eleven digits: what samplers without noise are judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.processes import Gaussian
from carrara.schedules import EDM

F64 = torch.float64
SCHEDULE = EDM()
HIGH = 80.0
POINTS = 64
SETS = 5
TOLERANCE = 1e-11
LOWEST = 1e-6
"""Where the reference takes the belief for its end; what is left there is far below every error that is reported."""


@dataclass(frozen=True)
class Problem:
    """A mixture, its exact denoiser, and SETS sets of POINTS starting points 80 z with their ends."""

    name: str
    mixture: GaussianMixture

    @cached_property
    def denoiser(self) -> MixtureDenoiser:
        return MixtureDenoiser(self.mixture, Gaussian(SCHEDULE))

    @cached_property
    def x(self) -> Tensor:
        """(SETS · POINTS, d) at t = 1: set k from NumPy's generator seeded with k."""
        return torch.cat([self.starts(k, POINTS) for k in range(SETS)])

    def starts(self, seed: int, count: int) -> Tensor:
        """`count` other starting points, (count, d)."""
        drawn = np.random.default_rng(seed).normal(size=(count, self.mixture.means.shape[1]))
        return HIGH * torch.from_numpy(drawn)

    @cached_property
    def end(self) -> Tensor:
        """Where the ODE takes each of them, by SciPy's DOP853 in log sigma."""

        def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(flat).reshape(self.x.shape)
            return (x - self.denoise(x, torch.tensor(math.exp(log_sigma), dtype=F64))).flatten().numpy()

        ends = (math.log(HIGH), math.log(LOWEST))
        solved = solve_ivp(slope, ends, self.x.flatten().numpy(), method="DOP853", rtol=TOLERANCE, atol=TOLERANCE)
        return self.denoise(torch.from_numpy(solved.y[:, -1]).reshape(self.x.shape), torch.tensor(LOWEST, dtype=F64))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x0 + sigma · eps = x], as the peers ask for it."""
        return self.denoiser(x, sigma / HIGH).x0

    def errors(self, x: Tensor) -> list[float]:
        """The root mean square error of these ends, one number a set; infinite where it is not a number."""
        square = (x - self.end).square().reshape(SETS, -1).mean(1).sqrt()
        return [value if math.isfinite(value) else math.inf for value in square.tolist()]


def mixture2d() -> Problem:
    """Four Gaussians in the plane, of unlike widths and weights."""
    means = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.2, -0.8]], dtype=F64)
    variances, weights = (
        torch.tensor([0.05, 0.1, 0.02, 0.08], dtype=F64),
        torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64),
    )
    return Problem("mixture2d", GaussianMixture(means, variances, weights))


def random_mixture(name: str, dimensions: int, count: int, seed: int) -> Problem:
    """Standard normal means, variances uniform in [0.02, 0.12], weights Dirichlet(3): all from NumPy's generator of that seed."""
    drawn = np.random.default_rng(seed)
    weights = drawn.dirichlet(np.full(count, 3.0))
    means = drawn.normal(size=(count, dimensions))
    variances = drawn.uniform(0.02, 0.12, count)
    return Problem(name, GaussianMixture(*(torch.from_numpy(part) for part in (means, variances, weights))))


def main_problems() -> list[Problem]:
    """The two that the figures are named after."""
    return [mixture2d(), random_mixture("mixture16d", 16, 6, seed=1)]


def further_problems(of: str) -> list[Problem]:
    """Three more of the same dimension, to see what is luck."""
    dimensions, count = (2, 4) if of == "mixture2d" else (16, 6)
    return [random_mixture(f"{of}, seed {seed}", dimensions, count, seed) for seed in (11, 12, 13)]
