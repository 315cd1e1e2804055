"""Likelihoods of tokens: what a denoiser says of log P(x0), in nats a sequence.

    −log P(x0) ≤ ∫ E[Σ over what is hidden of −log p(x0_i | x_t)] dsigma / sigma      `token_bound`, of masked diffusion
    −log P(x0) = Σ_i −log p(x0_i | what shows before i)                               `token_log_likelihood`, of one order
    −log P(w) ≤ L_T + ∫ ½ (−dλ) e^λ ‖E(w) − belief‖² + E[Σ_i −log p(w_i | x_t)]        `embedded_bound`, of vectors of tokens
    whichever of them there is                                                        `code_length`

A bound is an equality where the denoiser is exact, at every x0 by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.embeddings import EmbeddedDenoiser
from carrara.errors import InputError
from carrara.likelihood import integrand, prior_divergence
from carrara.processes import PLANNED
from carrara.rng import Streams
from carrara.tokens import OneOrderDenoiser

F64 = torch.float64
NEAR = 0.25
"""sigma / alpha at the first time of `embedded_bound`, over √width: two rows at random are 5.7 deviations apart there."""


@dataclass(frozen=True)
class TokenBound:
    """An unbiased estimate of the bound on −log P(x0), (B,) float64 nats a sequence."""

    nats: Tensor
    standard_error: Tensor | None
    """(B,): of each estimate, rather too large than too small; None for one draw."""


@torch.no_grad()
def token_bound(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, n: int = 16) -> TokenBound:
    """The bound of x0 int64 (B, L) from `n` evaluations of the denoiser, each at another share of hidden tokens.

    In sigma, what is hidden, the integrand knows nothing of the schedule; the n shares are (j + u_j) / n, u_j from each sample's
    own stream. The denoiser must be in evaluation mode. Raises InputError for fewer than 1 draw, and for a process that goes by a
    plan, whose likelihood has a formula.

    Source: Simple and Effective Masked Diffusion Language Models (MDLM), Sahoo et al., 2024.
    """
    if n < 1:
        raise InputError(f"{n} draws were asked for; the estimate needs at least 1")
    if denoiser.process.made_of == PLANNED:
        raise InputError(
            "tokens are hidden by a plan here, not by chance; token_log_likelihood gives the likelihood itself"
        )
    draws = torch.stack([_draw(denoiser, x0, cond, (j + rng.uniform()) / n, rng) for j in range(n)])
    return TokenBound(draws.mean(0), _standard_error(draws) if n > 1 else None)


@torch.no_grad()
def token_log_likelihood(denoiser: OneOrderDenoiser, x0: Tensor, cond: Cond | None = None) -> Tensor:
    """log P(x0) of x0 int64 (B, L), exactly: (B,) float64 nats a sequence, in one evaluation.

    The denoiser must be in evaluation mode. Raises InputError for a denoiser that knows more orders than one.
    """
    return -token_nats(denoiser, x0, cond).double().sum(1)


@torch.no_grad()
def token_nats(denoiser: Denoiser, x0: Tensor, cond: Cond | None = None) -> Tensor:
    """−log p of each token of x0 int64 (B, L) given those that show before it: (B, L) float32, what `token_log_likelihood` sums.

    Raises InputError for a denoiser that knows more orders than one.
    """
    if not isinstance(denoiser, OneOrderDenoiser):
        raise InputError(
            f"{type(denoiser).__name__} shows tokens in every order, so its likelihood has no formula; token_bound bounds it"
        )
    return denoiser.nats(x0, x0, torch.zeros((), dtype=F64), cond)


@torch.no_grad()
def embedded_bound(
    denoiser: EmbeddedDenoiser, ids: Tensor, cond: Cond | None, rng: Streams, n: int = 16, ratio: float | None = None
) -> TokenBound:
    """The bound of ids w int64 (B, L) whose vectors E(w) are noised, in nats a sequence.

    What is known at the first time, where sigma / alpha is `ratio` (None: NEAR · √width), is rounded by the denoiser's own
    p(w | x_t); from there to t = 1 it is the bound of `carrara.likelihood.bound` in continuous time. Whatever denoiser and
    ratio are, it is a bound. `n` evaluations for the integral, at places (j + u_j) / n of the clock, and a quarter as many,
    at least 2, for rounding, all from each sample's own stream. The denoiser must be in evaluation mode. Raises InputError
    for fewer than 1 draw, and for a ratio that is not above 0.

    Sources: Diffusion-LM, Li et al., 2022, eq. 2; Variational Diffusion Models, Kingma et al., 2021, eq. 11–15.
    """
    ratio = NEAR * math.sqrt(denoiser.table.width) if ratio is None else ratio
    if n < 1 or not 0 < ratio < math.inf:
        raise InputError(
            f"{n} draws from the ratio {ratio} on were asked for; the estimate needs 1 draw, and a ratio above 0"
        )
    first = denoiser.process.schedule.inverse(torch.tensor(-2 * math.log(ratio), dtype=F64))
    x0 = denoiser.table(ids)
    draws = torch.stack([integrand(denoiser, x0, cond, rng, first, (j + rng.uniform()) / n) for j in range(n)])
    last = torch.stack([_rounding(denoiser, ids, x0, cond, first, rng) for _ in range(max(2, n // 4))])
    nats = prior_divergence(denoiser.process, x0) + draws.mean(0) + last.mean(0)
    error = None if n == 1 else torch.hypot(_standard_error(draws), last.std(0) / math.sqrt(len(last)))
    return TokenBound(nats, error)


def _rounding(
    denoiser: EmbeddedDenoiser, ids: Tensor, x0: Tensor, cond: Cond | None, first: Tensor, rng: Streams
) -> Tensor:
    """Σ −log p(w_i | x_t) at one x_t of the first time, (B,) float64."""
    x_t, _ = denoiser.process.corrupt(x0, first, rng)
    return denoiser.nats(x_t, ids, first, cond).double().sum(1)


def code_length(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, n: int = 16) -> TokenBound:
    """−log P(x0) of x0 int64 (B, L): exact, with an error of 0, where the denoiser has a formula for it; else its bound."""
    if isinstance(denoiser, EmbeddedDenoiser):
        return embedded_bound(denoiser, x0, cond, rng, n)
    if not getattr(denoiser, "exact", False):
        return token_bound(denoiser, x0, cond, rng, n)
    nats = token_nats(denoiser, x0, cond).double().sum(1)
    return TokenBound(nats, torch.zeros_like(nats))


def _standard_error(draws: Tensor) -> Tensor:
    """Of the mean of n > 1 draws (n, B), one from each of n cells: (B,).

    A cell's variance is not known from one draw, so neighbours, in twos and at most once in three, stand for each other; what their
    means differ by is counted with it.

    Source: Sampling Techniques, Cochran, 1977, on collapsed strata.
    """
    groups = draws.tensor_split(len(draws) // 2)
    return torch.stack([len(group) * group.var(0) for group in groups]).sum(0).sqrt() / len(draws)


def _draw(denoiser: Denoiser, x0: Tensor, cond: Cond | None, share: Tensor, rng: Streams) -> Tensor:
    """1 / sigma · Σ of the nats of what is hidden in one x_t, where a share sigma (B,) of it is: (B,) float64."""
    # No time is exactly 0, where nothing is hidden and the factor is infinite.
    share = share.clamp(min=2**-53)
    t = denoiser.process.when(share)
    x_t, hidden = denoiser.process.corrupt(x0, t, rng)
    logp = denoiser(x_t, t, cond).logp.gather(-1, x0[..., None])[..., 0].double()
    return -torch.where(hidden, logp, 0.0).sum(1) / share.to(x0.device)
