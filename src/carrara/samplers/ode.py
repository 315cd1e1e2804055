"""One-step solvers of the probability-flow ODE.

They walk in the process's straight coordinates y = x / c against its clock, in which a constant belief is a straight line:
EDM's (x, sigma) where alpha stays 1, flow matching's (x / (alpha + sigma), sigma / (alpha + sigma)) elsewhere. See
Gaussian.straight.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.denoisers import Cond, Denoiser
from carrara.rng import Streams
from carrara.samplers.levels import walk
from carrara.samplers.step import Step
from carrara.schedules import Level


@torch.no_grad()
def euler(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """Euler's method: order 1, one evaluation a step. In straight coordinates it is DDIM.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et al., 2022, eq. 1.
    """
    process = denoiser.process
    for index, t, s, at_t, at_s in walk(process, times):
        belief = denoiser(x, t, cond)
        x = process.follow(x, process.slope(x, belief, at_t), at_t, at_s)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def heun(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """Heun's method: order 2, two evaluations a step, one in the step that ends at t = 0.

    Source: Karras et al., 2022, algorithm 1.
    """
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        x, belief = heun_step(denoiser, x, t, s, at_t, at_s, cond)
        yield Step(index, t, s, x, belief)


def heun_step(
    denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, at_t: Level, at_s: Level, cond: Cond | None
) -> tuple[Tensor, Point]:
    """(x_s, the belief at t) of one of Heun's steps: Euler's, then again with the mean of the slopes at both ends."""
    process = denoiser.process
    belief = denoiser(x, t, cond)
    first = process.slope(x, belief, at_t)
    ahead = process.follow(x, first, at_t, at_s)
    if at_s.sigma > 0:
        second = process.slope(ahead, denoiser(ahead, s, cond), at_s)
        ahead = process.follow(x, torch.lerp(first, second, 0.5), at_t, at_s)
    return ahead, belief
