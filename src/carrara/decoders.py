"""Discrete data in a continuous world: bins, dequantisation, and decoders p(x0 | x_t) for the bound's last term.

A number of the data has one of `bins` values, evenly spaced from −1 to 1, as the codec puts grey levels. A decoder gives
−log p(x0 | x_t) at the first time above 0; any decoder makes a true bound, a good one a close one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.processes import like
from carrara.rng import Streams
from carrara.variances import widest_variance

F64 = torch.float64
Decoder = Literal["bins", "gaussian"]


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (dims · ln 2): bits for each number of the data, of nats for all `dims` of them."""
    return nats / (dims * math.log(2))


def bin_width(bins: int) -> float:
    """2 / (bins − 1): the width of one of `bins` values whose centres go from −1 to 1, as the codec puts grey levels."""
    if bins < 2:
        raise InputError(f"{bins} bins were given; discrete data has at least 2 (256 for pictures)")
    return 2 / (bins - 1)


def dequantised(x0: Tensor, bins: int, rng: Streams) -> Tensor:
    """x0 + w (u − ½), u uniform and w the bins' width: (B, *) in x0's dtype, each number spread over its own bin.

    For any density p, log P(x0) ≥ E log p(dequantised) + dims · log w, P(x0) being the bin's mass under p.

    Source: A Note on the Evaluation of Generative Models, Theis et al., 2016, section 3.1.
    """
    u = rng.uniform(x0.shape[1:], device=x0.device)
    return (x0.double() + bin_width(bins) * (u - 0.5)).to(x0.dtype)


def decode_bins(
    denoiser: Denoiser, x0: Tensor, x_t: Tensor, t: Tensor, cond: Cond | None, bins: int | None
) -> Tensor:
    """−log p(x0 | x_t) for p in proportion to q(x_t | x0) over all values x0 may have, (B,) nats; the denoiser is not asked.

    Source: Variational Diffusion Models, Kingma et al., 2021, section 3.3 and appendix C.
    """
    alpha, sigma = float(denoiser.process.schedule.alpha(t)), float(denoiser.process.schedule.sigma(t))
    x, seen = x0.double().flatten(1), x_t.double().flatten(1)
    if bins is None:
        if alpha == 0:
            raise InputError(
                "the decoder bins reads continuous data off x_t, and at alpha = 0 it is not in it; use gaussian"
            )
        return _normal_nats(x, seen / alpha, torch.full_like(x, (sigma / alpha) ** 2)).sum(1)
    values = torch.linspace(-1, 1, bins, dtype=F64, device=x.device)

    def one(mine: Tensor, row: Tensor) -> Tensor:
        # A sample at a time: every number has as many scores as there are bins.
        scores = -0.5 * ((row[:, None] - alpha * values) / sigma).square()
        return (scores.logsumexp(1) + 0.5 * ((row - alpha * mine) / sigma).square()).sum()

    return torch.stack([one(mine, row) for mine, row in zip(x, seen, strict=True)])


def decode_gaussian(
    denoiser: Denoiser, x0: Tensor, x_t: Tensor, t: Tensor, cond: Cond | None, bins: int | None
) -> Tensor:
    """−log of the mass that N(mean, variance) of the belief puts into x0's bin, the outer bins open: (B,) nats.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, eq. 13.
    """
    belief: Point = denoiser(x_t, t, cond)
    widest = like(widest_variance(denoiser.process.schedule, t), x_t)
    variance = (widest if belief.variance is None else belief.variance).double().expand(x_t.shape).flatten(1)
    x, mean = x0.double().flatten(1), belief.x0.double().flatten(1)
    if bins is None:
        return _normal_nats(x, mean, variance).sum(1)
    half, std = bin_width(bins) / 2, variance.clamp(min=1e-24).sqrt()
    low = torch.where(x < -1 + half, -math.inf, (x - half - mean) / std)
    high = torch.where(x > 1 - half, math.inf, (x + half - mean) / std)
    return -_log_mass(low, high).sum(1)


def _normal_nats(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """−log N(x; mean, variance) of each number."""
    return 0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log())


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)) for low < high, accurate in both tails: it is taken on the side where Φ is small."""
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    mass: Tensor = top + torch.log(-torch.expm1(bottom - top))
    return mass


DECODERS: dict[str, Callable[..., Tensor]] = {"bins": decode_bins, "gaussian": decode_gaussian}
