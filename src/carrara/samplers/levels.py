"""The noise levels of a grid as plain numbers: what a step's coefficients are made of.

They are read off the schedule once, for the whole grid, in float64. A step is then a few products of numbers and one or two of
tensors, in the tensors' own precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Level:
    """How much data and how much noise there is at one time of a grid."""

    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """λ = log(alpha / sigma), half of logsnr: +inf at t = 0, −inf where alpha = 0."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


def levels(schedule: Schedule, times: Tensor) -> list[Level]:
    """The level at each of the times."""
    return [
        Level(alpha, sigma)
        for alpha, sigma in zip(schedule.alpha(times).tolist(), schedule.sigma(times).tolist(), strict=True)
    ]


def walk(schedule: Schedule, times: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Level, Level]]:
    """(index, t, s, level at t, level at s) for each step of the grid."""
    known = levels(schedule, times)
    for index in range(len(times) - 1):
        yield index, times[index], times[index + 1], known[index], known[index + 1]


def between(schedule: Schedule, lam: float) -> Tensor:
    """The time at which log(alpha / sigma) is `lam`: a scalar of float64."""
    return schedule.inverse(torch.tensor(2 * lam, dtype=torch.float64))


def hold(x: Tensor, x0: Tensor, at_t: Level, at_s: Level) -> Tensor:
    """x_s when x0 is held from t to s, exactly: (sigma_s / sigma_t) x + alpha_s (1 − e^{−h}) x0, h = λ_s − λ_t.

    It is DDIM's step, from t = 1 where alpha is 0 and to t = 0 too.

    Source: DPM-Solver++, Lu et al., 2022, eq. 9.
    """
    return at_s.sigma / at_t.sigma * x - at_s.alpha * math.expm1(at_t.lam - at_s.lam) * x0
