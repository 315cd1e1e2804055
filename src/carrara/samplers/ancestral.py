"""Samplers that draw from the posterior q(x_s | x_t, x0), the belief standing in for x0."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.processes import NUMBERS
from carrara.rng import Streams
from carrara.samplers.levels import hold, walk
from carrara.samplers.step import Step, of, pairs


@torch.no_grad()
def ancestral(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    eta: float = 1.0,
    temperature: float = 1.0,
) -> Iterator[Step]:
    """x_s ~ q(x_s | x_t, belief(x_t)), step by step, for any process.

    On the grid t = i/T with Gaussian noise it is DDPM's Algorithm 2 (with the posterior's variance); eta < 1 adds less
    noise, eta = 0 none. `temperature` 0 takes the posterior's mean for a draw from it, which loses the noise it needs.
    Of tokens, `temperature` is that of each draw.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, algorithm 2.
    """
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x = denoiser.process.step(x, belief, t, s, rng, eta=eta, temperature=temperature)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def ddim(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """The ancestral sampler that adds no noise (eta = 0): the belief is held for the step; order 1.

    Source: Denoising Diffusion Implicit Models, Song et al., 2021, eq. 12.
    """
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        x = hold(x, belief.x0, at_t, at_s)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def consistency(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None
) -> Iterator[Step]:
    """x_s ~ q(x_s | belief(x_t)): the belief, all of it noised anew. For models whose belief is a picture, not a mean.

    A distilled model believes in the end of the path from x_t. One evaluation gives it, and each further one corrects it from
    less noise. With a belief that is a mean over pictures, as every other model has, it converges to nothing of use.

    Source: Consistency Models, Song et al., 2023, algorithm 1.
    """
    if rng is None:
        raise InputError("consistency adds noise and needs the samples' random streams: pass rng")
    of(NUMBERS, denoiser.process)
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x = denoiser.process.corrupt(belief.x0, s, rng)[0] if s > 0 else belief.x0
        yield Step(index, t, s, x, belief)
