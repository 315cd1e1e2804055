"""Where diffusers' steps and ours differ: which of the two is right, by exact integrals and by measured orders of convergence.

A method of third order takes three beliefs for a parabola in λ = log(alpha / sigma). So where the belief *is* a parabola, and
does not depend on x, its step must be exact; that is asked of each, one step at a time, beside the order.
"""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from benchmarks.peers import Peer, of_diffusers, on_grid, scheduler
from sides import EXPLODING, ours, start, theirs
from torch import Tensor
from toys import F64, between, judge, last, measured_order

from carrara.samplers import adaptive
from carrara.samplers.multistep import CLOCKS, Value, advance
from carrara.schedules import Level

pytestmark = pytest.mark.oracle

COUNTS = (60, 85, 120, 170, 240)
FULL = {"lower_order_final": False}
ABOVE_ZERO = {**FULL, "final_sigmas_type": "sigma_min"}
H = torch.tensor([0.5, 0.35, 0.2], dtype=F64)
"""Steps in λ, uneven."""
CURVE = torch.tensor([0.3, -1.1, 0.7], dtype=F64)
"""x0 = 0.3 − 1.1 λ + 0.7 λ²."""


def sigmas_of(steps: Tensor) -> Tensor:
    """sigma / alpha of the knots, λ from 0 on."""
    return torch.exp(-torch.cat([torch.zeros(1, dtype=F64), steps.cumsum(0)]))


def parabola(lam: Tensor) -> Tensor:
    return CURVE[0] + CURVE[1] * lam + CURVE[2] * lam**2


def exact_gain(start: float, end: float, rate: float) -> float:
    """∫ rate e^{−rate (end − λ)} parabola(λ) dλ, by parts: the parabola less its derivatives over the rate, at both ends."""

    def primitive(lam: float) -> float:
        a, b, c = CURVE.tolist()
        value, slope, bend = a + b * lam + c * lam**2, b + 2 * c * lam, 2 * c
        return float(value - slope / rate + bend / rate**2)

    return primitive(end) - math.exp(-rate * (end - start)) * primitive(start)


def third_step(options: dict[str, object]) -> Tensor:
    """What diffusers' third step in these H, from x = 0 and without noise, gives on the parabola, divided by alpha."""
    sigmas = sigmas_of(H)
    made = on_grid(scheduler("DPMSolverMultistep", solver_order=3, **ABOVE_ZERO, **options), sigmas)
    made.model_outputs = [parabola(-sigma.log()).reshape(1, 1) for sigma in sigmas[:3]]
    made._step_index = 2
    x = torch.zeros(1, 1, dtype=F64)
    step = made.multistep_dpm_solver_third_order_update(made.model_outputs, sample=x, noise=x)
    return step * (1 + sigmas[3] ** 2).sqrt()


def our_third_step() -> Tensor:
    sigmas = sigmas_of(H)
    known = [Level(1.0, float(sigma)) for sigma in sigmas]
    beliefs = [parabola(-sigma.log()).reshape(1, 1) for sigma in sigmas]
    values = [Value(known[i], beliefs[i], beliefs[i]) for i in (2, 1, 0)]
    return advance(torch.zeros(1, 1, dtype=F64), values, known[3], "x0", CLOCKS["logsnr"])


def gain(rate: float) -> float:
    """The exact gain of the third step."""
    knots = -sigmas_of(H).log()
    return exact_gain(float(knots[2]), float(knots[3]), rate)


def test_third_order_multistep_gives_the_bend_half_its_weight() -> None:
    """diffusers' DPM++ 3M takes Newton's parabola f0 + D1 τ + D2 τ², whose D2 is half of f″, and weighs D2 as if it were f″.

    What is missing is half of the integral of D2 τ², D2 = 0.7 h².
    """
    h = float(H[2])
    bend = 0.7 * h**2 * 2 * (0.5 - (math.exp(-h) - 1 + h) / h**2)
    assert float(our_third_step()) == pytest.approx(gain(1), rel=1e-12)
    assert float(third_step({})) == pytest.approx(gain(1) - bend / 2, rel=1e-12)


def test_third_order_sde_has_a_wrong_sign() -> None:
    """diffusers' SDE-DPM++ 3M weighs D2 with g − 1/2, where 2 (g + 1/2) is right: an error of D2, of h² in every step.

    g = (1 − e^{−2h} − 2h) / (2h)², which goes to −1/2 with the step.
    """
    h = float(H[2])
    g = (1 - math.exp(-2 * h) - 2 * h) / (2 * h) ** 2
    wrong = 0.7 * h**2 * ((g - 0.5) - 2 * (g + 0.5))
    found = float(third_step({"algorithm_type": "sde-dpmsolver++"}))
    assert found == pytest.approx(gain(2) + wrong, rel=1e-12)
    assert abs(wrong) > 0.01 * abs(gain(2))


@cache
def exact_end() -> Tensor:
    """Where the path from sigma = 3 comes to at sigma = 0.1, by SciPy's DOP853."""
    times = between(EXPLODING, 1)
    walk = adaptive(
        judge(EXPLODING), start(torch.tensor(3.0, dtype=F64)), times, rtol=1e-11, atol=1e-11, method="DOP853"
    )
    return last(walk)


def order_of(end: Callable[[Tensor], Tensor], order: int) -> float:
    """The measured order between sigma = 3 and 0.1, the first steps short enough not to spoil it."""

    def error(n: int) -> float:
        sigmas = EXPLODING.sigma(between(EXPLODING, n, uneven=True, order=order))
        return float((end(sigmas) - exact_end()).square().mean().sqrt())

    return measured_order(error, COUNTS)


ORDERS: dict[str, tuple[Peer, str, dict[str, object], int, int]] = {
    "DPM++ 3M": (of_diffusers("DPMSolverMultistep", solver_order=3, **ABOVE_ZERO), "dpmpp_3m", {}, 2, 3),
    "UniPC 1": (of_diffusers("UniPCMultistep", solver_order=1, **FULL), "unipc", {"order": 1}, 2, 2),
    "UniPC 2": (of_diffusers("UniPCMultistep", solver_order=2, **FULL), "unipc", {"order": 2}, 3, 3),
    "UniPC 3": (of_diffusers("UniPCMultistep", solver_order=3, **FULL), "unipc", {"order": 3}, 4, 4),
    "iPNDM": (of_diffusers("IPNDM"), "lms", {}, 1, 4),
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders(name: str) -> None:
    """On steps alternating 1 : 2. Third-order multistep is of second order in diffusers, for the weight above; iPNDM, whose
    coefficients are those of even steps, of first. UniPC's simplifications at orders 1 and 2 cost none."""
    peer, mine, options, their_order, our_order = ORDERS[name]
    measured = order_of(lambda sigmas: theirs(peer, sigmas), our_order)
    found = order_of(lambda sigmas: ours(mine, sigmas, **options), our_order)
    assert their_order - 0.15 < measured < their_order + 0.45
    assert our_order - 0.15 < found < our_order + 0.45
