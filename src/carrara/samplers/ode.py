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
from carrara.samplers.step import Step, pairs


@torch.no_grad()
def euler(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """Euler's method: order 1, one evaluation a step. In straight coordinates it is DDIM.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et al., 2022, eq. 1.
    """
    process = denoiser.process
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x = process.follow(x, process.slope(x, belief, t), t, s)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def heun(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """Heun's method: order 2, two evaluations a step, one in the step that ends at t = 0.

    Source: Karras et al., 2022, algorithm 1.
    """
    for index, t, s in pairs(times):
        x, belief = heun_step(denoiser, x, t, s, cond)
        yield Step(index, t, s, x, belief)


def heun_step(denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None) -> tuple[Tensor, Point]:
    """(x_s, the belief at t) of one of Heun's steps: Euler's, then again with the mean of the slopes at both ends."""
    process = denoiser.process
    belief = denoiser(x, t, cond)
    first = process.slope(x, belief, t)
    ahead = process.follow(x, first, t, s)
    if s > 0:
        second = process.slope(ahead, denoiser(ahead, s, cond), s)
        ahead = process.follow(x, (first + second) / 2, t, s)
    return ahead, belief
