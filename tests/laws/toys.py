"""What the laws share: every schedule, data whose answers are known, and stand-ins for random streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.beliefs import Point
from carrara.processes import NUMBERS, Gaussian
from carrara.samplers import over
from carrara.schedules import EDM, SCHEDULES, Cosine, Flow, LinearBeta, ScaledLinearBeta, Schedule

F64 = torch.float64

OF_NUMBERS = over(NUMBERS)
"""The samplers of Gaussian noise; those of tokens have laws of their own, in test_token_samplers.py."""

SCHEDULE_CASES: dict[str, Schedule] = {name: make() for name, make in SCHEDULES.items()} | {
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True),
    "scaled_linear_beta, zero terminal": ScaledLinearBeta(zero_terminal=True),
    "linear_beta, 20 steps": LinearBeta(20, 0.005, 0.4),
}
"""Every schedule there is, by name, and variants of the tables."""

SMOOTH: dict[str, Schedule] = {"flow": Flow(), "cosine": Cosine(), "edm": EDM()}
"""Schedules without knots, one of each family."""


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def mixture() -> GaussianMixture:
    """Four Gaussians in the plane, of unlike widths and weights."""
    return GaussianMixture(
        torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.2, -0.8]], dtype=F64),
        torch.tensor([0.05, 0.1, 0.02, 0.08], dtype=F64),
        torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64),
    )


def judge(schedule: Schedule) -> MixtureDenoiser:
    """The exact denoiser of the mixture."""
    return MixtureDenoiser(mixture(), Gaussian(schedule))


class Elementwise:
    """A denoiser in which no number meets another, so that its rounding cannot depend on the batch; for data near ±1."""

    def __init__(self, schedule: Schedule) -> None:
        self.process = Gaussian(schedule)

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        return Point(torch.tanh(x_t * (alpha / (0.01 + sigma**2)).to(x_t)))


class OneGaussian:
    """The exact denoiser of N(0, variance): linear in x_t."""

    def __init__(self, schedule: Schedule, variance: float) -> None:
        self.process, self.variance = Gaussian(schedule), variance

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        return Point(x_t * (self.process.schedule.alpha(t) * self.variance / self.noisy_variance(t)))

    def noisy_variance(self, t: Tensor) -> Tensor:
        """The variance of x_t."""
        schedule = self.process.schedule
        return schedule.alpha(t) ** 2 * self.variance + schedule.sigma(t) ** 2


class Impulses:
    """In place of random streams: draw number k is 1 for row k and 0 for every other; `drawn` counts the draws."""

    def __init__(self, rows: int) -> None:
        self.rows, self.drawn = rows, 0

    def normal(self, shape: Sequence[int], dtype: torch.dtype = F64, device: object = "cpu") -> Tensor:
        noise = torch.zeros((self.rows, *shape), dtype=dtype)
        if self.drawn < self.rows:
            noise[self.drawn] = 1
        self.drawn += 1
        return noise


class Bulk:
    """In place of random streams where only moments matter: one fast generator for the whole batch."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.generator = rows, torch.Generator().manual_seed(seed)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = F64, device: object = "cpu") -> Tensor:
        return torch.randn((self.rows, *shape), dtype=dtype, generator=self.generator)


def last(steps: object) -> Tensor:
    """x at the end of a walk."""
    x = None
    for step in steps:  # type: ignore[attr-defined]
        x = step.x
    assert x is not None
    return x


def between(
    schedule: Schedule, n: int, high: float = 3.0, low: float = 0.1, uneven: bool = False, order: int = 1
) -> Tensor:
    """n + 1 falling times from sigma/alpha = high to low: even in logsnr, or with steps alternating 1 : 2.

    A sampler of order k that begins with lower ones needs k − 1 short first steps not to be judged by these: step j, of order
    j, has an error of h_j^{j + 1}, so h_j ~ h^{k / (j + 1)}.
    """
    step = 1 + (torch.arange(n) % 2 if uneven else torch.zeros(n)).to(F64)
    for j in range(1, order):
        step[j - 1] = n ** (1 - max(1.0, order / (j + 1)))
    place = torch.cat([torch.zeros(1, dtype=F64), step.cumsum(0)])
    return schedule.inverse(-2 * torch.lerp(scalar(math.log(high)), scalar(math.log(low)), place / place[-1]))


def measured_order(error: Callable[[int], float], counts: Sequence[int]) -> float:
    """−slope of log error against log n, by least squares."""
    n = torch.tensor([math.log(count) for count in counts], dtype=F64)
    e = torch.tensor([math.log(error(count)) for count in counts], dtype=F64)
    n, e = n - n.mean(), e - e.mean()
    return -float((n @ e) / (n @ n))
