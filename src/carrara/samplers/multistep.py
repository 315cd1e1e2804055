"""Samplers that remember earlier beliefs, in local variables."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.denoisers import Cond, Denoiser
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.samplers.step import Step, pairs


def exponential(process: Gaussian, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s when x0 is held from t to s, exactly: (sigma_s / sigma_t) x + alpha_s (1 − e^{−h}) x0, h = half the gain of logsnr.

    Source: DPM-Solver++, Lu et al., 2022, eq. 9.
    """
    schedule = process.schedule
    h = (schedule.logsnr(s) - schedule.logsnr(t)) / 2
    return like(schedule.sigma(s) / schedule.sigma(t), x) * x - like(schedule.alpha(s) * torch.expm1(-h), x) * x0


@torch.no_grad()
def dpmpp_2m(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """DPM-Solver++(2M): x0 extrapolated from the last two beliefs to the middle of the step; order 2, one evaluation a step.

    The first step, and one that ends at t = 0 (where logsnr is infinite), hold the belief: order 1.

    Source: DPM-Solver++, Lu et al., 2022, algorithm 2.
    """
    schedule = denoiser.process.schedule
    previous: tuple[Tensor, Point] | None = None
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x0 = belief.x0
        if previous is not None and s > 0:
            before, last = previous
            reach = (schedule.logsnr(s) - schedule.logsnr(t)) / (schedule.logsnr(t) - schedule.logsnr(before)) / 2
            x0 = x0 + like(reach, x) * (x0 - last.x0)
        previous = (t, belief)
        x = exponential(denoiser.process, x, x0, t, s)
        yield Step(index, t, s, x, belief)
