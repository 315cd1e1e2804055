"""Samplers that add noise on the way, other than from the posterior."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.rng import Streams
from carrara.samplers.levels import between, hold, level, walk
from carrara.samplers.ode import heun_step
from carrara.samplers.step import Step
from carrara.schedules import Level


@torch.no_grad()
def euler_ancestral(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    eta: float = 1.0,
) -> Iterator[Step]:
    """Euler down to less noise than s has, and noise put back: another way to write `ancestral` where the noise is Gaussian.

    sigma_down² = sigma_s² − variance and `variance` = eta² sigma_s² (1 − SNR_t / SNR_s) are the posterior's two parts.

    Source: the sampler of that name in k-diffusion, Crowson, 2022; the posterior is Ho et al.'s, 2020, eq. 7.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta}; it must lie in [0, 1], from no new noise to the posterior's own")
    rng = _needed(rng, "euler_ancestral") if eta else rng
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        ratio = math.exp(2 * (at_t.lam - at_s.lam))
        x = hold(x, belief.x0, at_t, Level(at_s.alpha, at_s.sigma * math.sqrt(1 - eta**2 + eta**2 * ratio)))
        if rng is not None and eta and at_s.sigma > 0:
            noise = rng.normal(x.shape[1:], dtype=x.dtype, device=x.device)
            x = x + at_s.sigma * eta * math.sqrt(1 - ratio) * noise
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def euler_maruyama(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    eta: float = 1.0,
) -> Iterator[Step]:
    """Euler and Maruyama's method on the reverse SDE, in the process's straight coordinates; order 1 in law.

        dy = (slope + eta eps) du + √(2 eta u) dw,       u: the clock, running down

    Where alpha stays 1 and eta is 1 it is the reverse of the forward SDE; elsewhere it has the same marginals, and no
    coefficient that is infinite at t = 1. The step that ends at t = 0 gives the belief.

    Sources: Score-Based Generative Modeling through SDEs, Song et al., 2021, eq. 6; SiT, Ma et al., 2024, section 2.4, for
    the choice of the noise.
    """
    if not eta >= 0:
        raise InputError(f"eta is {eta}; it is 0 (no noise) or more, 1 being the reverse SDE")
    process, rng = denoiser.process, _needed(rng, "euler_maruyama")
    for index, t, s, at_t, at_s in walk(process, times):
        belief = denoiser(x, t, cond)
        if s > 0:
            eps = (x - at_t.alpha * belief.x0) / at_t.sigma
            (_, clock_t), (c_s, clock_s) = process.straight(at_t), process.straight(at_s)
            std = c_s * math.sqrt(2 * eta * clock_t * (clock_t - clock_s))
            noise = rng.normal(x.shape[1:], dtype=x.dtype, device=x.device)
            x = process.follow(x, process.slope(x, belief, at_t) + eta * eps, at_t, at_s) + std * noise
        else:
            x = belief.x0
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def churn(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    amount: float = 40.0,
    ratio_min: float = 0.05,
    ratio_max: float = 50.0,
    noise_scale: float = 1.0,
) -> Iterator[Step]:
    """EDM's stochastic sampler: before each of Heun's steps noise is added, up to 1 + gamma times as much as there was.

    gamma = min(`amount` / steps, √2 − 1) while sigma / alpha lies between `ratio_min` and `ratio_max`, and is cut where
    t would exceed 1; the added noise has `noise_scale` times its own standard deviation (the paper's 1.003 makes up for networks
    that take too much away). The other defaults are the paper's for ImageNet 64. Order 2 in law.

    Source: Karras et al., 2022, algorithm 2 and table 5.
    """
    process, rng = denoiser.process, _needed(rng, "churn")
    gamma, top = min(amount / (len(times) - 1), math.sqrt(2) - 1), level(process.schedule, times[0])
    for index, t, s, at_t, at_s in walk(process, times):
        start, at_start = t, at_t
        if at_t.alpha > 0 and ratio_min <= at_t.sigma / at_t.alpha <= ratio_max and gamma > 0:
            start = between(process.schedule, max(at_t.lam - math.log1p(gamma), top.lam))
            x, at_start = process.renoise(x, t, start, rng, noise_scale), level(process.schedule, start)
        x, belief = heun_step(denoiser, x, start, s, at_start, at_s, cond)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def restart(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    repeats: int = 1,
    ratio_min: float = 0.1,
    ratio_max: float = 1.0,
) -> Iterator[Step]:
    """Restart: Heun's path, of which the part from sigma / alpha = `ratio_max` to `ratio_min` is walked again from new noise.

    At the last time of the grid that is not below `ratio_min` the walk is brought back up to the last that is not below
    `ratio_max` and walks down the same times again, `repeats` times; only then does the Step end. Fresh noise in one large
    amount contracts the errors made so far, and the paths between are without noise. A grid with fewer than two times in
    the interval is walked once.

    Source: Restart Sampling for Improving Generative Processes, Xu et al., 2023, algorithm 2.
    """
    process, rng = denoiser.process, _needed(rng, "restart")
    if repeats < 0 or not 0 < ratio_min < ratio_max:
        raise InputError(
            f"restart needs repeats ≥ 0 and 0 < ratio_min < ratio_max; given {repeats}, {ratio_min} and {ratio_max}"
        )
    known = process.schedule.levels(times)
    top, bottom = _last_above(known, ratio_max), _last_above(known, ratio_min)
    for index, t, s, at_t, at_s in walk(process, times):
        x, belief = heun_step(denoiser, x, t, s, at_t, at_s, cond)
        for _ in range(repeats if index + 1 == bottom > top else 0):
            x = process.renoise(x, s, times[top], rng)
            for _, high, low, at_high, at_low in walk(process, times[top : bottom + 1]):
                x, _ = heun_step(denoiser, x, high, low, at_high, at_low, cond)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def langevin(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    strength: float = 0.5,
    eta: float = 1.0,
) -> Iterator[Step]:
    """Predictor and corrector: an ancestral step to s, then a step of Langevin's at s, x + (e / 2) score + √e z.

    e = 2 sigma_s² (1 − e^{−strength · h}), h the step in λ: the corrector takes as much of its own time as the predictor
    did, so that its bias goes to nothing with the step; for the same reason it looks at no norm, and a sample depends on
    itself alone. Two evaluations a step.

    Source: Song et al., 2021, algorithms 4 and 5; the step's size after Karras et al., 2022, eq. 6.
    """
    if not strength >= 0:
        raise InputError(f"strength is {strength}; it is 0 (no corrector) or more")
    process, rng = denoiser.process, _needed(rng, "langevin")
    for index, t, s, at_t, at_s in walk(process, times):
        belief = denoiser(x, t, cond)
        x = process.step(x, belief, t, s, rng, eta=eta)
        if s > 0 and strength:
            half = -math.expm1(-strength * (at_s.lam - at_t.lam))
            eps = process.eps(x, denoiser(x, s, cond).x0, s)
            noise = rng.normal(x.shape[1:], dtype=x.dtype, device=x.device)
            x = x - at_s.sigma * half * eps + at_s.sigma * math.sqrt(2 * half) * noise
        yield Step(index, t, s, x, belief)


def _needed(rng: Streams | None, name: str) -> Streams:
    if rng is None:
        raise InputError(f"{name} adds noise and needs the samples' random streams: pass rng")
    return rng


def _last_above(known: list[Level], ratio: float) -> int:
    """The index of the grid's last level with sigma / alpha not below `ratio`; 0 where there is none."""
    return max((index for index, level in enumerate(known) if level.sigma >= ratio * level.alpha), default=0)
