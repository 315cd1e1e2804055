"""Likelihoods: what a denoiser says of log p(x0), as a bound and along the probability-flow ODE.

    −log p(x0) ≤ L_T + Σ L_{t−1} + L_0        `bound`, in T steps or in continuous time
    log p(x0) = log p(x_1) + ∫ div            `flow_log_likelihood`

Both go along the clock, the logarithm of the noise angle (see clock.py), from t_min to t = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.clock import angle_at, clock_of, time_at
from carrara.decoders import DECODERS, Decoder, bin_width, bits_per_dim, dequantised
from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError, nearest
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.variances import divergence, snr_gap

F64 = torch.float64
Spread = Literal["uniform", "noise"]
EXACT_DIMS = 1000
"""The most numbers a sample may have for its trace to be computed exactly: that takes as many backward passes."""

# ---------------------------------------------------------------------------------------------------- the bound


@dataclass(frozen=True)
class Bound:
    """The three terms of the variational bound on −log p(x0), each (B,) float64 in nats."""

    prior: Tensor
    """L_T = KL(q(x_1 | x0) ‖ p(x_1))."""
    diffusion: Tensor
    """Σ L_{t−1} = Σ E KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)), or its limit for steps without number; an unbiased estimate."""
    reconstruction: Tensor
    """L_0 = E −log p(x0 | x_t) at the first time; an unbiased estimate."""

    @property
    def total(self) -> Tensor:
        """(B,) nats: no less, in the mean over the noise, than −log p(x0)."""
        return self.prior + self.diffusion + self.reconstruction

    def bits_per_dim(self, dims: int) -> Tensor:
        """The total in bits for each of `dims` numbers, (B,)."""
        return bits_per_dim(self.total, dims)


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Cond | None,
    rng: Streams,
    steps: int | None = None,
    bins: int | None = 256,
    draws: int | None = 1,
    t_min: float = 1e-3,
    decoder: Decoder | None = None,
) -> Bound:
    """The Bound of x0 (B, *), its noise and its times drawn from each sample's own stream.

    `steps` = T: the bound of the chain on the grid i/T, whose steps back are `Gaussian.reverse` of the beliefs, learned
    variances included; None: its limit in continuous time down to t_min, ∫ ½ (−dλ/dt) e^λ ‖x0 − belief‖² dt.
    `draws`: evaluations of the denoiser for the sum or the integral, evenly spread along the clock after one uniform number
    a sample (each term divided by its probability); None: all T − 1 terms of the sum.
    `bins`: how many values a number of x0 may have, from −1 to 1 (256: pictures), the bound then being one on the probability;
    None: x0 is continuous, and the bound is one on the density.
    `decoder` says what p(x0 | x_t) is at the first time, 1/T or t_min (None: gaussian with steps, bins without):

        bins        in proportion to q(x_t | x0), all values alike before: free of the network (VDM, eq. 15–16)
        gaussian    N(x0; mean, variance) of the belief, unit data's variance where it has none, which on DDPM's grid is
                    beta_1; over each bin, the outer ones open (DDPM, eq. 13)

    `denoiser` is asked at one time for each sample; for an analytic one, which knows one time for all, use draws=None.
    Raises InputError for numbers that make no bound, and for x0 that is not on the bins.

    Sources: Denoising Diffusion Probabilistic Models, Ho et al., 2020, eq. 5 and 13; Variational Diffusion Models, Kingma et
    al., 2021, eq. 11–15 and appendix I.1.
    """
    _check_bound(x0, steps, bins, draws, t_min)
    process = denoiser.process
    first = torch.tensor(t_min if steps is None else 1 / steps, dtype=F64)
    chosen = decoder or ("bins" if steps is None else "gaussian")
    if chosen not in DECODERS:
        raise InputError(f"there is no decoder {chosen!r}: {nearest(chosen, DECODERS)}")
    x_t, _ = process.corrupt(x0, first, rng)
    reconstruction = DECODERS[chosen](denoiser, x0, x_t, first, cond, bins)
    if steps is None:
        assert draws is not None
        diffusion = _integral(denoiser, x0, cond, rng, first, draws)
    else:
        diffusion = _sum(denoiser, x0, cond, rng, steps, draws)
    return Bound(prior_divergence(process, x0), diffusion, reconstruction)


def prior_divergence(process: Gaussian, x0: Tensor) -> Tensor:
    """KL(N(alpha x0, sigma²) ‖ N(0, alpha² + sigma²)) at t = 1, (B,) nats: ½ Σ [alpha² (x0² − 1) / P + log(P / sigma²)].

    P = alpha² + sigma² is the prior's variance, see Gaussian.prior; where alpha(1) = 0 it is exactly 0.
    """
    one = torch.ones((), dtype=F64)
    alpha, sigma = process.schedule.alpha(one), process.schedule.sigma(one)
    share = float(alpha**2 / (alpha**2 + sigma**2))
    each = share * (x0.double().square() - 1) + float(torch.log1p((alpha / sigma) ** 2))
    return 0.5 * each.flatten(1).sum(1)


def _integral(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, first: Tensor, draws: int) -> Tensor:
    """∫ ½ e^λ (−dλ/dclock) ‖x0 − belief‖² dclock, the factor being theta cos(theta) / sin(theta)³: (B,)."""
    total = torch.zeros(len(x0), dtype=F64, device=x0.device)
    for place in _places(rng, draws):
        total += integrand(denoiser, x0, cond, rng, first, place)
    return total / draws


def integrand(
    denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, first: Tensor, place: Tensor
) -> Tensor:
    """What the bound's integral in continuous time is the mean of, at one place (B,) in [0, 1) and one x_t: (B,) float64 nats.

    A place is the share of the clock that has gone by from the time `first` to 1.
    """
    schedule = denoiser.process.schedule
    low, high = clock_of(schedule, first), clock_of(schedule, torch.ones_like(first))
    clock = torch.lerp(low, high, place)
    theta, t = angle_at(clock), time_at(schedule, clock)
    factor = (high - low) * theta * torch.cos(theta) / torch.sin(theta) ** 3
    return factor.to(x0.device) * _errors(denoiser, x0, cond, rng, t)[0].flatten(1).sum(1)


def _sum(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, steps: int, draws: int | None) -> Tensor:
    """Σ over i = 2 … T of the divergence of the step from i/T to (i − 1)/T, or an estimate from `draws` of them: (B,)."""
    total = torch.zeros(len(x0), dtype=F64, device=x0.device)
    knots = torch.arange(1, steps + 1, dtype=F64) / steps
    if draws is None or steps == 1:
        for s, t in pairwise(knots):
            total += _divergence(denoiser, x0, cond, rng, t, s)
        return total
    clock = clock_of(denoiser.process.schedule, knots)
    share = clock.diff() / (clock[-1] - clock[0])
    edges = torch.cat([share.new_zeros(1), share.cumsum(0)])
    for place in _places(rng, draws):
        i = (torch.searchsorted(edges, place, right=True) - 1).clamp(0, steps - 2)
        total += _divergence(denoiser, x0, cond, rng, knots[i + 1], knots[i]) / share[i].to(x0.device)
    return total / draws


def _divergence(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, t: Tensor, s: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) at one x_t drawn for each sample, (B,) nats."""
    square, variance = _errors(denoiser, x0, cond, rng, t)
    gap = like(snr_gap(denoiser.process.schedule, t, s), square)
    return divergence(gap * square, gap * variance).flatten(1).sum(1)


def _errors(denoiser: Denoiser, x0: Tensor, cond: Cond | None, rng: Streams, t: Tensor) -> tuple[Tensor, Tensor]:
    """(the belief's squared error, its variance or 0), each float64, at one x_t drawn for each sample."""
    x_t, _ = denoiser.process.corrupt(x0, t, rng)
    belief: Point = denoiser(x_t, t, cond)
    square = (x0.double() - belief.x0.double()).square()
    return square, torch.zeros_like(square) if belief.variance is None else belief.variance.double()


def _places(rng: Streams, draws: int) -> list[Tensor]:
    """`draws` places in [0, 1), each (B,): (u + j) / draws, one uniform number u a sample."""
    u = rng.uniform()
    return [(u + j) / draws for j in range(draws)]


def _check_bound(x0: Tensor, steps: int | None, bins: int | None, draws: int | None, t_min: float) -> None:
    if steps is not None and steps < 1:
        raise InputError(f"a bound in {steps} steps is not possible; give 1 or more, or None for continuous time")
    if steps is None and draws is None:
        raise InputError(
            "draws=None takes every step of the sum, and continuous time has no number of steps; give both"
        )
    if draws is not None and draws < 1:
        raise InputError(f"{draws} draws were asked for; the estimate needs at least 1")
    _check_t_min(t_min)
    if bins is not None:
        place = (x0.double() + 1) / bin_width(bins)
        if not bool(((place - place.round()).abs() < 1e-3).all()) or float(x0.abs().max()) > 1 + 1e-6:
            raise InputError(
                f"x0 holds numbers that are none of the {bins} values from −1 to 1; give data as the codec encodes it, "
                "or bins=None for continuous data"
            )


def _check_t_min(t_min: float) -> None:
    if not 0 < t_min < 1:
        raise InputError(f"t_min is {t_min}; it must lie strictly between 0 and 1")


# ---------------------------------------------------------------------------------------------------- the flow


@dataclass(frozen=True)
class FlowLikelihood:
    """log p(x0) along the probability-flow ODE, (B,) float64 in nats."""

    log_prob: Tensor
    standard_error: Tensor | None
    """Of each log_prob, from its probes; None where the trace is exact or has but one probe."""


Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(clock, y (B, *)) -> (dy/dclock, divergence (B, m))."""
Solver = Callable[[Field, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(field, y, from, to) -> (y at the end, the divergence's integral (B, m))."""


@torch.no_grad()
def flow_log_likelihood(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Cond | None = None,
    rng: Streams | None = None,
    *,
    trace: Literal["hutchinson", "exact"] = "hutchinson",
    probes: int = 1,
    t_min: float = 1e-3,
    steps: int = 50,
    method: Literal["rk4", "heun"] | Solver = "rk4",
) -> FlowLikelihood:
    """The log density at x0 (B, *) of x_t / alpha at t_min, which the ODE carries to the prior at t = 1.

    With y = x_t / √(alpha² + sigma²), theta the noise angle and J = d belief / dy, the ODE and the change of log density are

        dy/dclock = theta / sin(theta) · (cos(theta) y − belief),     div = theta / sin(theta) · (dims cos(theta) − tr J),
        log p(x0) = log N(y_1; 0, 1) + ∫ div dclock + dims · log cos(theta_min).

    It is a proper density whatever t_min and the network are; as t_min falls it becomes that of the data. `trace`: "exact"
    takes a backward pass for each number of a sample; "hutchinson" the mean of eᵀ J e over `probes` of random signs, held
    through the walk and drawn from `rng`, unbiased for log p. `method`: `steps` even steps of rk4 (error of order steps⁻⁴)
    or heun (steps⁻²), whose error twice the steps will show, or a Solver, such as `carrara.solvers.dopri5()`.
    The denoiser must be in evaluation mode. Raises InputError for numbers that make no walk.

    Sources: Score-Based Generative Modeling through SDEs, Song et al., 2021, section 4.3; FFJORD, Grathwohl et al., 2019,
    section 3.1.
    """
    _check_flow(x0, rng, trace, probes, t_min, steps, method)
    schedule, dims = denoiser.process.schedule, x0[0].numel()
    ends = clock_of(schedule, torch.tensor([t_min, 1.0], dtype=F64))
    cosine = torch.cos(angle_at(ends[0]))
    field = _Flow(denoiser, cond, _exact if rng is None or trace == "exact" else _hutchinson(x0, rng, probes))
    solve = _even(STAGES[method], steps) if isinstance(method, str) else method
    y, integral = solve(field, like(cosine, x0) * x0.detach(), *ends)
    prior = -0.5 * (y.double().square() + math.log(2 * math.pi)).flatten(1).sum(1)
    each = prior[:, None] + integral + dims * float(cosine.log())
    spread = each.std(1) / math.sqrt(probes) if trace == "hutchinson" and probes > 1 else None
    return FlowLikelihood(each.mean(1), spread)


@torch.no_grad()
def flow_nats(
    denoiser: Denoiser,
    x0: Tensor,
    cond: Cond | None,
    rng: Streams,
    bins: int = 256,
    spread: Spread = "uniform",
    t_min: float = 1e-3,
    decoder: Decoder = "bins",
    **options: Any,
) -> Tensor:
    """A draw of what bounds −log P(x0) of discrete x0 (B, *) along the flow, (B,) float64 nats: no less than it in the mean.

    A density knows no single values, so x0 is spread, z = x0 + noise, and what the noise costs is paid back:

        uniform     over each number's own bin:  −log p(z) − dims · log(bin width)
        noise       that of x_t at t_min, z = x_t / alpha:  −log p(z) + log q(z | x0) − log p(x0 | x_t), by the `decoder`

    The second has the L_0 of `bound` and, in place of its other terms, the flow's density of what the network is trained to
    see. `options` are flow_log_likelihood's. Raises InputError for an unknown spread, and as flow_log_likelihood does.
    """
    if spread not in ("uniform", "noise"):
        raise InputError(f"there is no spread {spread!r}: {nearest(spread, ('uniform', 'noise'))}")
    if spread == "uniform":
        z = dequantised(x0, bins, rng)
        gain = torch.full((len(x0),), x0[0].numel() * math.log(bin_width(bins)), dtype=F64, device=x0.device)
    else:
        _check_t_min(t_min)
        at = torch.tensor(t_min, dtype=F64)
        x_t, eps = denoiser.process.corrupt(x0, at, rng)
        alpha, sigma = denoiser.process.schedule.alpha(at), denoiser.process.schedule.sigma(at)
        z = x_t / like(alpha, x_t)
        known = -0.5 * (eps.double().square() + math.log(2 * math.pi)) - float((sigma / alpha).log())
        gain = -DECODERS[decoder](denoiser, x0, x_t, at, cond, bins) - known.flatten(1).sum(1)
    return -flow_log_likelihood(denoiser, z, cond, rng, t_min=t_min, **options).log_prob - gain


@dataclass(frozen=True)
class _Flow:
    """The ODE's right side and its divergence, see flow_log_likelihood."""

    denoiser: Any
    cond: Cond | None
    traces: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, clock: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        schedule, theta = self.denoiser.process.schedule, angle_at(clock.double())
        t = time_at(schedule, clock.double())
        size = like(torch.hypot(schedule.alpha(t), schedule.sigma(t)), y)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            belief = self.denoiser(size * y, t, self.cond).x0
            if not belief.requires_grad:
                raise InputError("the denoiser's belief carries no gradient, which the divergence needs")
            traces = self.traces(belief, y)
        rate, cosine = theta / torch.sin(theta), torch.cos(theta)
        slope = like(rate, y) * (like(cosine, y) * y - belief)
        return slope.detach(), float(rate) * (y[0].numel() * float(cosine) - traces)


def _exact(out: Tensor, y: Tensor) -> Tensor:
    """tr(d out / dy) of each sample, (B, 1) float64: a backward pass for each number."""
    flat = out.flatten(1)
    total = torch.zeros(len(y), dtype=F64, device=y.device)
    for i in range(flat.shape[1]):
        (row,) = torch.autograd.grad(flat[:, i].sum(), y, retain_graph=True)
        total += row.flatten(1)[:, i].double()
    return total[:, None]


def _hutchinson(x0: Tensor, rng: Streams, probes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that estimates tr(d out / dy) of each sample from the same `probes` vectors of signs: (B, probes) float64."""
    signs = [torch.where(rng.uniform(x0.shape[1:]) < 0.5, -1.0, 1.0).to(x0) for _ in range(probes)]

    def traces(out: Tensor, y: Tensor) -> Tensor:
        found = [torch.autograd.grad(out, y, sign, retain_graph=True)[0] * sign for sign in signs]
        return torch.stack([product.double().flatten(1).sum(1) for product in found], dim=1)

    return traces


def _heun(field: Field, clock: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(change of y, integral of the divergence) over one step, order 2."""
    k1, d1 = field(clock, y)
    k2, d2 = field(clock + h, y + like(h, y) * k1)
    return like(h / 2, y) * (k1 + k2), float(h) / 2 * (d1 + d2)


def _rk4(field: Field, clock: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(change of y, integral of the divergence) over one step, order 4."""
    half = like(h / 2, y)
    k1, d1 = field(clock, y)
    k2, d2 = field(clock + h / 2, y + half * k1)
    k3, d3 = field(clock + h / 2, y + half * k2)
    k4, d4 = field(clock + h, y + 2 * half * k3)
    return half / 3 * (k1 + 2 * k2 + 2 * k3 + k4), float(h) / 6 * (d1 + 2 * d2 + 2 * d3 + d4)


STAGES = {"heun": _heun, "rk4": _rk4}


def _even(stage: Callable[[Field, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], steps: int) -> Solver:
    """A Solver of even steps."""

    def solve(field: Field, y: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        h, integral = (end - start) / steps, torch.zeros((), dtype=F64, device=y.device)
        for i in range(steps):
            change, part = stage(field, start + i * h, y, h)
            y, integral = y + change, integral + part
        return y, integral

    return solve


def _check_flow(
    x0: Tensor, rng: Streams | None, trace: str, probes: int, t_min: float, steps: int, method: object
) -> None:
    _check_t_min(t_min)
    if isinstance(method, str) and method not in STAGES:
        raise InputError(f"there is no method {method!r}: {nearest(method, STAGES)}, or a Solver")
    if trace not in ("hutchinson", "exact"):
        raise InputError(f"there is no trace {trace!r}: {nearest(trace, ('hutchinson', 'exact'))}")
    if min(steps, probes) < 1:
        raise InputError(f"{steps} steps and {probes} probes were asked for; at least 1 of each is needed")
    if trace == "hutchinson" and rng is None:
        raise InputError("the trace's random signs come from the samples' random streams: pass rng, or trace='exact'")
    if trace == "exact" and x0[0].numel() > EXACT_DIMS:
        raise InputError(
            f"the exact trace takes a backward pass for each of {x0[0].numel()} numbers at every evaluation; it is meant for "
            f"{EXACT_DIMS} or fewer: use trace='hutchinson'"
        )
