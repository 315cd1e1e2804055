"""DPM-Solver++ of second order: in two evaluations, from two beliefs, and with noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.rng import Streams
from carrara.samplers.levels import between, hold, level, walk
from carrara.samplers.step import Step
from carrara.schedules import Level


@torch.no_grad()
def dpmpp_2s(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """DPM-Solver++(2S): the step is taken with the belief at its middle in λ; order 2, two evaluations a step.

    From alpha = 0, where λ is −∞, the middle is λ_s − 1: the mean of λ under the integral's weight e^λ.
    The step that ends at t = 0 holds the belief.

    Source: DPM-Solver++, Lu et al., 2022, algorithm 1 with r = 1/2.
    """
    schedule = denoiser.process.schedule
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        x0 = belief.x0
        if s > 0:
            middle = between(schedule, (at_t.lam + at_s.lam) / 2 if at_t.alpha > 0 else at_s.lam - 1)
            x0 = denoiser(hold(x, x0, at_t, level(schedule, middle)), middle, cond).x0
        x = hold(x, x0, at_t, at_s)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def dpmpp_2m(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """DPM-Solver++(2M): x0 extrapolated from the last two beliefs to the middle of the step; order 2, one evaluation a step.

    The first step, and one that ends at t = 0 (where λ is infinite), hold the belief: order 1.

    Source: DPM-Solver++, Lu et al., 2022, algorithm 2.
    """
    previous: tuple[Level, Tensor] | None = None
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        x, previous = hold(x, ahead(belief.x0, previous, at_t, at_s), at_t, at_s), (at_t, belief.x0)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def dpmpp_2m_sde(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    eta: float = 1.0,
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M): the step of 2M on the reverse SDE, whose noise goes and comes `eta` times as fast.

        x_s = (sigma_s / sigma_t) e^{−eta h} x_t + alpha_s (1 − e^{−(1 + eta) h}) x0 + sigma_s √(1 − e^{−2 eta h}) z

    With a held belief and eta = 1 this is the ancestral step; with eta = 0 it is 2M. Order 2, in law where there is noise.

    Source: DPM-Solver++, Lu et al., 2022, appendix on SDE solvers.
    """
    if not eta >= 0:
        raise InputError(f"eta is {eta}; it is 0 (no noise) or more, 1 being the reverse of the forward process")
    if eta and rng is None:
        raise InputError("dpmpp_2m_sde adds noise and needs the samples' random streams: pass rng, or eta = 0")
    previous: tuple[Level, Tensor] | None = None
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        x0, previous = ahead(belief.x0, previous, at_t, at_s), (at_t, belief.x0)
        h = at_s.lam - at_t.lam
        # The last step is infinitely long.
        drift = math.exp(-eta * h) if eta else 1.0
        x = at_s.sigma / at_t.sigma * drift * x - at_s.alpha * math.expm1(-(1 + eta) * h) * x0
        if eta and rng is not None and s > 0:
            std = at_s.sigma * math.sqrt(-math.expm1(-2 * eta * h))
            x = x + std * rng.normal(x.shape[1:], dtype=x.dtype, device=x.device)
        yield Step(index, t, s, x, belief)


def ahead(x0: Tensor, previous: tuple[Level, Tensor] | None, at_t: Level, at_s: Level) -> Tensor:
    """x0 extrapolated to the middle of the step in λ, from it and the belief before it; itself where there is none."""
    if previous is None or at_s.sigma == 0:
        return x0
    before, last = previous
    reach = (at_s.lam - at_t.lam) / (at_t.lam - before.lam) / 2
    return x0 + reach * (x0 - last)
