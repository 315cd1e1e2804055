"""Samplers that remember earlier beliefs, in local variables: one formula, in which they differ by four choices.

Along the probability-flow ODE, with λ = log(alpha / sigma),

    d(x / sigma) = x0 d(alpha / sigma) = x0 d(e^λ),      d(x / alpha) = eps d(sigma / alpha) = eps d(e^{−λ}),

both exact. A step takes x0 or eps for a polynomial through its last values, in some clock, and integrates that:

    x_s = (sigma_s / sigma_t) x_t + Σ_j x0_j  alpha_s ∫ e^{λ − λ_s} ℓ_j dλ
    x_s = (alpha_s / alpha_t) x_t − Σ_j eps_j sigma_s ∫ e^{λ_s − λ} ℓ_j dλ        ℓ_j: Lagrange's polynomials in the clock

As these polynomials add up to one, both are DDIM's step with the belief at t, alpha_s x0 + sigma_s eps, and a multiple of each
other value's difference from it. That is how they are computed: it loses no digits where alpha is next to nothing.

    sampler      quantity   clock              values   corrector
    ddim         either     –                  1        no
    dpmpp_3m     x0         λ                  3        no
    lms          eps        sigma / alpha      4        no          (there the integral is that of Adams and Bashforth)
    deis         eps        λ                  3        no
    unipc        x0         λ                  p        p + 1 values
    adams        x0         atan(sigma/alpha)  p        p + 1 values

The corrector takes the step again once the belief at its end is known, which costs no evaluation: the next step needs it anyway.
The steps in which λ is infinite hold the belief.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.rng import Streams
from carrara.samplers.levels import hold, walk
from carrara.samplers.step import Step
from carrara.schedules import Level

Quantity = Literal["x0", "eps"]
ClockName = Literal["logsnr", "ratio", "angle"]
Clock = Callable[[Tensor], Tensor]

CLOCKS: dict[str, Clock] = {
    "logsnr": lambda lam: lam,
    "ratio": lambda lam: torch.exp(-lam),
    "angle": lambda lam: torch.atan(torch.exp(-lam)),
}
"""The variable in which x0 or eps is a polynomial, as a function of λ: λ itself, sigma / alpha, or the noise angle."""

HIGHEST_ORDER = 6
NODES = 24


class Value(NamedTuple):
    """What was believed at a level: x0, and the quantity that is integrated, x0 itself or eps."""

    at: Level
    x0: Tensor
    quantity: Tensor


@torch.no_grad()
def multistep(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    quantity: Quantity = "x0",
    clock: ClockName = "logsnr",
    order: int = 3,
    corrector: int = 0,
) -> Iterator[Step]:
    """The general multistep sampler: `order` values in the step, `corrector` in its correction (0: none).

    Its order of convergence is the larger of `order` and min(`order` + 1, `corrector`), once that many steps are done.
    """
    variable = _checked(quantity, clock, order, corrector)
    memory: list[Value] = []
    before: Tensor | None = None
    for index, t, s, at_t, at_s in walk(denoiser.process, times):
        belief = denoiser(x, t, cond)
        if corrector and before is not None:
            begun, *earlier = memory
            new = _value(x, belief.x0, at_t, quantity)
            x = advance(before, [begun, new, *earlier][:corrector], at_t, quantity, variable)
        memory = [_value(x, belief.x0, at_t, quantity), *memory][:HIGHEST_ORDER]
        before, x = x, advance(x, memory[:order], at_s, quantity, variable)
        yield Step(index, t, s, x, belief)


def advance(x: Tensor, values: Sequence[Value], at_s: Level, quantity: Quantity, clock: Clock) -> Tensor:
    """x_s from x at the level of the first of the values, the quantity being the polynomial in the clock through all.

    It is the step that holds the first belief, and what the others' difference from it adds. Where λ is infinite at an end
    of the step nothing is added.
    """
    begun, *others = values
    x_s = hold(x, begun.x0, begun.at, at_s)
    if not others or not math.isfinite(at_s.lam - begun.at.lam):
        return x_s
    scale = at_s.alpha if quantity == "x0" else at_s.sigma
    weights = integrals([value.at.lam for value in values], begun.at.lam, at_s.lam, quantity, clock)
    for weight, other in zip(weights, others, strict=True):
        x_s = x_s + scale * weight * (other.quantity - begun.quantity)
    return x_s


def integrals(lams: Sequence[float], start: float, end: float, quantity: Quantity, clock: Clock) -> list[float]:
    """±∫ e^{±(λ − λ_s)} ℓ_j dλ from λ_t to λ_s for each of the values at `lams` but the first; the upper signs for x0.

    By Gauss and Legendre's rule. A value that the clock puts at infinity has no part in the polynomial: its weight is 0.
    """
    sign = 1 if quantity == "x0" else -1
    knots = clock(torch.tensor(lams, dtype=torch.float64))
    finite = knots.isfinite()
    nodes, weights = _gauss_legendre(NODES)
    lam = start + (end - start) * nodes
    kernel = sign * (end - start) * weights * torch.exp(sign * (lam - end))
    shares = torch.zeros(len(lams), dtype=torch.float64)
    shares[finite] = lagrange(knots[finite], clock(lam)) @ kernel
    rest: list[float] = shares[1:].tolist()
    return rest


def _value(x: Tensor, x0: Tensor, at: Level, quantity: Quantity) -> Value:
    return Value(at, x0, x0 if quantity == "x0" else (x - at.alpha * x0) / at.sigma)


def lagrange(knots: Tensor, at: Tensor) -> Tensor:
    """Lagrange's polynomials of k knots at Q places: (k, Q)."""
    factors = (at - knots[:, None])[None] / (knots[:, None] - knots)[..., None]
    own = torch.eye(len(knots), dtype=torch.bool)[..., None]
    return factors.masked_fill(own, 1).prod(1)


@cache
def _gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], by the eigenvalues of Legendre's recurrence (Golub & Welsch, 1969)."""
    k = torch.arange(1, count, dtype=torch.float64)
    beside = torch.diag(k / (4 * k**2 - 1).sqrt(), 1)
    values, vectors = torch.linalg.eigh(beside + beside.T)
    return (values + 1) / 2, vectors[0] ** 2


def _checked(quantity: str, clock: str, order: int, corrector: int) -> Clock:
    if quantity not in ("x0", "eps"):
        raise InputError(f"the quantity of a multistep sampler is {quantity!r}; it is x0 or eps")
    if clock not in CLOCKS:
        raise InputError(f"the clock of a multistep sampler is {clock!r}; it is {', '.join(CLOCKS)}")
    for name, value, least in (("order", order, 1), ("corrector", corrector, 0)):
        if not least <= value <= HIGHEST_ORDER:
            raise InputError(
                f"the {name} of a multistep sampler is {value}; it lies between {least} and {HIGHEST_ORDER}"
            )
    return CLOCKS[clock]


def dpmpp_3m(
    denoiser: Denoiser, x: Tensor, times: Tensor, cond: Cond | None = None, *, rng: Streams | None = None
) -> Iterator[Step]:
    """DPM-Solver++(3M): x0 a parabola in λ through the last three beliefs, integrated exactly; order 3.

    Source: DPM-Solver++, Lu et al., 2022, section 4.2 and appendix B, with the multistep form's third order worked out.
    """
    return multistep(denoiser, x, times, cond, rng=rng, quantity="x0", clock="logsnr", order=3)


def lms(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    order: int = 4,
) -> Iterator[Step]:
    """Linear multistep, Adams and Bashforth's method in sigma / alpha: eps a polynomial there through its last values.

    Source: Pseudo Numerical Methods for Diffusion Models, Liu et al., 2022, appendix; in Karras et al.'s variables, 2022.
    """
    return multistep(denoiser, x, times, cond, rng=rng, quantity="eps", clock="ratio", order=order)


def deis(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    order: int = 3,
    clock: ClockName = "logsnr",
) -> Iterator[Step]:
    """DEIS: eps a polynomial in the clock, integrated exactly. In the clock "ratio" it is the paper's ρAB, which is `lms`.

    Source: Fast Sampling of Diffusion Models with Exponential Integrator, Zhang & Chen, 2023, section 3.3.
    """
    return multistep(denoiser, x, times, cond, rng=rng, quantity="eps", clock=clock, order=order)


def unipc(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    order: int = 3,
) -> Iterator[Step]:
    """UniPC: the predictor takes `order` beliefs, the corrector one more, the new one; order of convergence `order` + 1.

    Where the paper's system for the coefficients is solved in full, it is this exact integral; its B(h) plays no part.

    Source: UniPC: A Unified Predictor-Corrector Framework, Zhao et al., 2023, theorem 3.1 and section 3.3.
    """
    return multistep(
        denoiser, x, times, cond, rng=rng, quantity="x0", clock="logsnr", order=order, corrector=order + 1
    )


def adams(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None = None,
    order: int = 3,
    quantity: Quantity = "x0",
    clock: ClockName = "angle",
) -> Iterator[Step]:
    """Adams, Bashforth and Moulton's predictor and corrector in the noise angle: order of convergence `order` + 1.

    λ runs to infinity at both ends of the path, where x0 (before) and eps (after) hardly change any more; sigma / alpha does
    at one. The angle does at neither, and a polynomial in it is a better guess where steps are long.

    Source: exponential Adams methods as in Zhang & Chen, 2023, and Zhao et al., 2023; the clock is carrara's.
    """
    return multistep(
        denoiser, x, times, cond, rng=rng, quantity=quantity, clock=clock, order=order, corrector=order + 1
    )
