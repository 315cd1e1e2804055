"""On the same noise levels, with the same denoiser and the same draws, our samplers take diffusers' steps to the last digits.

diffusers' schedulers are handed the levels in place of their own and compute in float64. Every one of our steps is taken under
two schedules: alpha = 1 and alpha² + sigma² = 1.
"""

import pytest
import torch
from benchmarks.peers import of_diffusers, on_grid, scheduler
from sides import POINTS, draws, karras_sigmas, ours, theirs
from torch import Tensor
from toys import F64, SMOOTH, Bulk

from carrara.samplers.multistep import CLOCKS, Value, advance
from carrara.schedules import Level, Schedule

pytestmark = pytest.mark.oracle

TO_ZERO = karras_sigmas(12)
ABOVE_ZERO = karras_sigmas(20)[:-1]
FULL = {"lower_order_final": False}

PATHS: dict[str, tuple[str, dict[str, object], str, dict[str, object], Tensor]] = {
    "euler": ("euler", {}, "EulerDiscrete", {}, TO_ZERO),
    "ddim": ("ddim", {}, "EulerDiscrete", {}, TO_ZERO),
    "euler, EDM": ("euler", {}, "EDMEuler", {}, TO_ZERO),
    "heun": ("heun", {}, "HeunDiscrete", {}, TO_ZERO),
    "lms": ("lms", {}, "LMSDiscrete", {}, ABOVE_ZERO),
    "dpmpp_2m": ("dpmpp_2m", {}, "DPMSolverMultistep", {"solver_order": 2}, TO_ZERO),
    "dpmpp_2m, EDM": ("dpmpp_2m", {}, "EDMDPMSolverMultistep", {"solver_order": 2}, TO_ZERO),
    "deis 2": ("deis", {"order": 2}, "DEISMultistep", {"solver_order": 2, **FULL}, ABOVE_ZERO),
    "deis 3": ("deis", {"order": 3}, "DEISMultistep", {"solver_order": 3, **FULL}, ABOVE_ZERO),
}


@pytest.mark.parametrize("case", PATHS)
@pytest.mark.parametrize("schedule", [SMOOTH["edm"], SMOOTH["cosine"]], ids=["edm", "cosine"])
def test_paths_are_the_same(case: str, schedule: Schedule) -> None:
    """All but Heun's under the second: ours averages slopes in EDM's coordinates only where alpha is 1, the peer everywhere."""
    name, options, peer, settings, sigmas = PATHS[case]
    expected, found = theirs(of_diffusers(peer, **settings), sigmas), ours(name, sigmas, schedule, **options)
    if name == "heun" and not schedule.exploding:
        assert float((found - expected).abs().max()) > 0.01
    else:
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


NOISY: dict[str, tuple[str, dict[str, object]]] = {
    "ancestral": ("EulerAncestralDiscrete", {}),
    "euler_ancestral": ("EulerAncestralDiscrete", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistep", {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
}


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("schedule", [SMOOTH["edm"], SMOOTH["cosine"]], ids=["edm", "cosine"])
def test_noisy_walks_are_the_same(name: str, schedule: Schedule) -> None:
    """The peer's Euler ancestral sampler is DDPM's posterior step in other coordinates, noise included."""
    peer, settings = NOISY[name]
    expected = theirs(of_diffusers(peer, noise=draws(), **settings), TO_ZERO)
    torch.testing.assert_close(ours(name, TO_ZERO, schedule), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", [SMOOTH["edm"], SMOOTH["cosine"]], ids=["edm", "cosine"])
def test_two_evaluations_a_step_are_the_single_step_solver_on_twice_as_many_levels(schedule: Schedule) -> None:
    """diffusers takes the middle of a step from the grid; ours finds it. On a grid that holds the middles they agree."""
    ends = karras_sigmas(8)[:-1]
    middles = (ends[1:] * ends[:-1]).sqrt()
    grid = torch.cat([torch.stack([ends[:-1], middles], 1).flatten(), ends[-1:], torch.zeros(1, dtype=F64)])
    expected = theirs(of_diffusers("DPMSolverSinglestep", solver_order=2), grid)
    found = ours("dpmpp_2s", torch.cat([ends, grid[-1:]]), schedule)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


SIMPLIFIED = {("predictor", 2), ("corrector", 1)}


@pytest.mark.parametrize("part", ["predictor", "corrector"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["bh1", "bh2"])
@pytest.mark.parametrize("quantity", ["x0", "eps"])
def test_unipc_is_the_exact_integral_whatever_b_is(part: str, order: int, kind: str, quantity: str) -> None:
    """UniPC's two updates, with its system for the coefficients solved, integrate Lagrange's polynomial: B(h) cancels.

    diffusers replaces the coefficient by 1/2 where only one is to be found (the predictor of order 2, the corrector of order
    1): there, and only there, its steps are others than ours and depend on B(h).
    """
    sigmas = karras_sigmas(9)
    place = 5
    made = on_grid(
        scheduler("UniPCMultistep", solver_order=order, solver_type=kind, predict_x0=quantity == "x0"), sigmas
    )
    lead = torch.rsqrt(1 + sigmas**2)
    knots = [Level(float(a), float(s)) for a, s in zip(lead, sigmas * lead, strict=True)]
    x, *beliefs = Bulk(POINTS, 3).normal((order + 2, 2)).unbind(1)
    values = [Value(knots[place - i], *_both(x, belief, knots[place], quantity)) for i, belief in enumerate(beliefs)]
    made.model_outputs, made.timestep_list = [value.quantity for value in values[:order]][::-1], [0] * order
    clock = CLOCKS["logsnr"]
    if part == "predictor":
        made._step_index = place
        theirs = made.multistep_uni_p_bh_update(x, sample=x, order=order)
        ours = advance(x, values[:order], knots[place + 1], quantity, clock)
    else:
        made._step_index = place + 1
        new = Value(knots[place + 1], beliefs[-1], beliefs[-1])
        theirs = made.multistep_uni_c_bh_update(new.quantity, last_sample=x, this_sample=x, order=order)
        ours = advance(x, [values[0], new, *values[1:order]], knots[place + 1], quantity, clock)
    same = torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert same == ((part, order) not in SIMPLIFIED)


def _both(x: Tensor, belief: Tensor, at: Level, quantity: str) -> tuple[Tensor, Tensor]:
    """(x0, the quantity) when the quantity is `belief` and x is at that level."""
    return (belief if quantity == "x0" else (x - at.sigma * belief) / at.alpha), belief
