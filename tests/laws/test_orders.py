"""Every sampler converges as fast as it declares, and no faster, where the exact answer is known.

Samplers without noise are judged by their path, against an independent solution of the probability-flow ODE; samplers with
noise by the variance they give to one-Gaussian data, which is exact: they are linear there, so their coefficients are read
off by impulses and nothing is random.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from toys import (
    F64,
    OF_NUMBERS,
    SCHEDULE_CASES,
    SMOOTH,
    Impulses,
    OneGaussian,
    between,
    judge,
    last,
    measured_order,
    mixture,
    scalar,
)

from carrara.rng import Streams
from carrara.samplers import adaptive
from carrara.times import grid

COUNTS = (80, 160, 320)
OPTIONS: dict[str, dict[str, float]] = {
    "churn": {"amount": 4.0},  # So little that it is not cut off, with which it would not fall with the step.
    "restart": {"ratio_min": 0.3},  # Within the part of the path that is walked.
}
STAYS = {"cosine_beta": 4e-4}
"""The error, where it is not below 1e-4, of steps of the Karras grid that never get shorter: here the first, from 20,291 to 80."""
CLAIMING = [name for name, sampler in OF_NUMBERS.items() if sampler.order > 0]
"""The samplers that claim an order of convergence."""
each_sampler = pytest.mark.parametrize("name", [name for name in CLAIMING if name != "adaptive"])


def walked(name: str, denoiser: object, x: Tensor, times: Tensor, rng: object) -> Tensor:
    return last(OF_NUMBERS[name].walk(denoiser, x, times, rng=rng, **OPTIONS.get(name, {})))


@cache
def exact_path(kind: str) -> tuple[Tensor, Tensor]:
    """(x at the first time, x at the last time) of `between`, 12 samples of the mixture, solved as dy/dlog r = −r² score(y).

    y = x / alpha and r = sigma / alpha; the score is autograd's, the solver is of order 8 with tolerance 1e-12.
    """
    schedule = SMOOTH[kind]
    first, final = between(schedule, 1)
    rng, data = Streams(range(12)), mixture()
    x = judge(schedule).process.corrupt(data.sample(rng), first, rng)[0]

    def slope(log_r: float, flat: object) -> object:
        y = torch.as_tensor(flat, dtype=F64).reshape(-1, 2).requires_grad_()
        log_prob = data.noisy(scalar(1.0), scalar(math.exp(log_r))).log_prob(y).sum()
        return (-math.exp(2 * log_r) * torch.autograd.grad(log_prob, y)[0]).reshape(-1).numpy()

    log_r = [math.log(schedule.sigma(t) / schedule.alpha(t)) for t in (first, final)]
    start = (x / schedule.alpha(first)).reshape(-1).numpy()
    solution = solve_ivp(slope, log_r, start, method="DOP853", rtol=1e-12, atol=1e-12)
    return x, schedule.alpha(final) * torch.from_numpy(solution.y[:, -1]).reshape(-1, 2)


def path_error(name: str, kind: str, uneven: bool) -> Callable[[int], float]:
    x, answer = exact_path(kind)

    def error(n: int) -> float:
        times = between(SMOOTH[kind], n, uneven=uneven, order=OF_NUMBERS[name].order)
        return float((walked(name, judge(SMOOTH[kind]), x, times, None) - answer).square().mean().sqrt())

    return error


def variance_error(name: str, denoiser: OneGaussian, times: Tensor) -> float:
    """|variance of the sampler's result − the exact one| / the exact one, for exact x at the first time."""
    counter = Impulses(1)
    walked(name, denoiser, torch.zeros(1, 1, dtype=F64), times, counter)
    rows = torch.zeros(counter.drawn + 1, 1, dtype=F64)
    rows[-1] = 1
    response = walked(name, denoiser, rows, times, Impulses(len(rows))).squeeze(1)
    variance = response[:-1].square().sum() + response[-1] ** 2 * denoiser.noisy_variance(times[0])
    return abs(float(variance / denoiser.noisy_variance(times[-1]) - 1))


def law_error(name: str, kind: str, uneven: bool) -> Callable[[int], float]:
    denoiser = OneGaussian(SMOOTH[kind], 0.25)
    order = OF_NUMBERS[name].order
    return lambda n: variance_error(name, denoiser, between(SMOOTH[kind], n, uneven=uneven, order=order))


@each_sampler
@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_measured_order_is_the_declared_one(name: str, kind: str, uneven: bool) -> None:
    error = (law_error if OF_NUMBERS[name].stochastic else path_error)(name, kind, uneven)
    assert OF_NUMBERS[name].order - 0.15 < measured_order(error, COUNTS) < OF_NUMBERS[name].order + 0.25


@each_sampler
@pytest.mark.parametrize("kind", SMOOTH)
def test_order_in_the_variance(name: str, kind: str) -> None:
    """The law converges at least as fast as the path does; a wrong amount of noise would leave an error that stays."""
    assert measured_order(law_error(name, kind, True), COUNTS) > OF_NUMBERS[name].order - 0.15


@each_sampler
@pytest.mark.parametrize("kind", [kind for kind, schedule in SCHEDULE_CASES.items() if schedule.steps != 20])
def test_variance_converges_on_whole_grids(name: str, kind: str) -> None:
    """From t = 1 to 0. The first step is the longest; the error of the last, from sigma/alpha = 0.002 to 0, stays."""
    schedule, counts = SCHEDULE_CASES[kind], (40, 80, 160)
    errors = [variance_error(name, OneGaussian(schedule, 0.25), grid("karras", n, schedule)) for n in counts]
    assert all(fine < max(0.75 * coarse, STAYS.get(kind, 1e-4)) for coarse, fine in pairwise(errors))
    assert errors[-1] < (0.08 if OF_NUMBERS[name].order == 1 else 0.01)


@cache
def exact_end(kind: str) -> tuple[Tensor, Tensor]:
    """(x at t = 1, where the ODE takes it) by SciPy's DOP853 within 1e-10, 16 samples."""
    denoiser = judge(SMOOTH[kind])
    x = denoiser.process.prior((2,), Streams(range(16))).double()
    steps = adaptive(denoiser, x, grid("karras", 3, SMOOTH[kind]), rtol=1e-10, atol=1e-10, method="DOP853")
    return x, last(steps)


@pytest.mark.parametrize("name", [n for n, s in OF_NUMBERS.items() if not s.stochastic and n != "adaptive"])
@pytest.mark.parametrize("kind", SMOOTH)
def test_path_converges_on_whole_grids(name: str, kind: str) -> None:
    """The path is far from its asymptotes in the middle, where the mixture parts, so high orders are not yet reached."""
    x, answer = exact_end(kind)

    def error(n: int) -> float:
        walk = OF_NUMBERS[name].walk(judge(SMOOTH[kind]), x, grid("karras", n, SMOOTH[kind]), rng=None)
        return float((last(walk) - answer).square().mean().sqrt())

    errors = [error(n) for n in (10, 20, 40, 80, 160)]
    assert all(fine < 0.75 * coarse for coarse, fine in pairwise(errors))
    assert measured_order(error, (40, 80, 160)) > min(OF_NUMBERS[name].order, 2.5) - 0.4


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("method", ["RK45", "DOP853"])
def test_adaptive_keeps_its_tolerance_on_any_grid(kind: str, method: str) -> None:
    """Of each step; on the way from sigma/alpha = 3 to 0.1 an error grows, near where the mixture parts, up to 80 times."""
    x, answer = exact_path(kind)
    for n in (1, 3):
        for tolerance in (1e-4, 1e-6, 1e-8):
            walk = adaptive(
                judge(SMOOTH[kind]), x, between(SMOOTH[kind], n), rtol=tolerance, atol=tolerance, method=method
            )
            assert float((last(walk) - answer).abs().max()) < 200 * tolerance
