"""A walk over a grid with its noise levels as plain numbers: what a step's coefficients are made of.

The levels are read off the schedule once, for the whole grid, in float64. A step is then a few products of numbers, and one or
two of tensors in their own precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from carrara.processes import NUMBERS
from carrara.samplers.step import of
from carrara.schedules import Level, Schedule


def walk(process: Any, times: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Level, Level]]:
    """(index, t, s, level at t, level at s) for each step of the grid. Raises InputError for a process of tokens."""
    known = of(NUMBERS, process).schedule.levels(times)
    for index in range(len(times) - 1):
        yield index, times[index], times[index + 1], known[index], known[index + 1]


def level(schedule: Schedule, t: Tensor) -> Level:
    """The level at one time, a scalar."""
    return schedule.levels(t[None])[0]


def between(schedule: Schedule, lam: float) -> Tensor:
    """The time at which log(alpha / sigma) is `lam`: a scalar of float64."""
    return schedule.inverse(torch.tensor(2 * lam, dtype=torch.float64))


def hold(x: Tensor, x0: Tensor, at_t: Level, at_s: Level) -> Tensor:
    """x_s when x0 is held from t to s, exactly: (sigma_s / sigma_t) x + alpha_s (1 − e^{−h}) x0, h = λ_s − λ_t.

    It is DDIM's step, from t = 1 where alpha is 0 and to t = 0 too.

    Source: DPM-Solver++, Lu et al., 2022, eq. 9.
    """
    return at_s.sigma / at_t.sigma * x - at_s.alpha * math.expm1(at_t.lam - at_s.lam) * x0
