"""The samplers of the papers, in the papers' own symbols, are carrara's."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from toys import F64, SCHEDULE_CASES, judge, last

from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.samplers import ancestral, ddim, euler, euler_ancestral, heun
from carrara.schedules import EDM, Flow, LinearBeta, Schedule
from carrara.times import GRIDS, grid

T, START, END = 12, 0.01, 0.35
SEEDS = range(20, 26)
BETAS = [START + (END - START) * i / (T - 1) for i in range(T)]


def alpha_bar(i: int) -> float:
    product = 1.0
    for beta in BETAS[:i]:
        product *= 1 - beta
    return product


def eps_network(x: Tensor, i: int) -> Tensor:
    """Any function of x and of the step's number will do; that it depends on both makes an off-by-one visible."""
    return torch.sin(x * (1 + 0.1 * i)) + 0.05 * i


class FromEps:
    """The belief that `eps_network` amounts to, found by the number of the step that t stands for."""

    def __init__(self) -> None:
        self.process = Gaussian(LinearBeta(T, START, END))

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        i = round(float(t) * T)
        assert abs(float(t) * T - i) < 1e-9
        return Point((x_t - (1 - alpha_bar(i)) ** 0.5 * eps_network(x_t, i)) / alpha_bar(i) ** 0.5)


def first_x() -> Tensor:
    return torch.randn(len(SEEDS), 3, 2, dtype=F64, generator=torch.Generator().manual_seed(5))


def algorithm_2(x: Tensor, rng: Streams) -> list[Tensor]:
    """Ho et al., 2020, algorithm 2 with sigma_t² = beta-tilde_t: x_{T−1}, …, x_0."""
    path = []
    for i in range(T, 0, -1):
        beta, bar, before = BETAS[i - 1], alpha_bar(i), alpha_bar(i - 1)
        z = rng.normal(x.shape[1:], dtype=F64) if i > 1 else 0.0
        mean = (x - beta / (1 - bar) ** 0.5 * eps_network(x, i)) / (1 - beta) ** 0.5
        x = mean + ((1 - before) / (1 - bar) * beta) ** 0.5 * z
        path.append(x)
    return path


def ddim_eq_12(x: Tensor, eta: float, rng: Streams, numbers: list[int]) -> Tensor:
    """Song et al., 2021, eq. 12 and 16 over falling step numbers that end at 0."""
    for i, j in pairwise(numbers):
        bar, before, eps = alpha_bar(i), alpha_bar(j), eps_network(x, i)
        sigma = eta * ((1 - before) / (1 - bar)) ** 0.5 * (1 - bar / before) ** 0.5
        x0 = (x - (1 - bar) ** 0.5 * eps) / bar**0.5
        x = before**0.5 * x0 + (1 - before - sigma**2) ** 0.5 * eps
        x = x + sigma * rng.normal(x.shape[1:], dtype=F64) if sigma else x
    return x


def test_ancestral_on_the_table_is_algorithm_2() -> None:
    denoiser = FromEps()
    times = grid("trailing", T, denoiser.process.schedule)
    steps = list(ancestral(denoiser, first_x(), times, rng=Streams(SEEDS)))
    expected = algorithm_2(first_x(), Streams(SEEDS))
    assert len(steps) == T
    for step, x in zip(steps, expected, strict=True):
        torch.testing.assert_close(step.x, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 4, 6, T])
def test_ancestral_with_eta_is_ddim_eq_12_with_fewer_steps(eta: float, n: int) -> None:
    denoiser = FromEps()
    times = grid("trailing", n, denoiser.process.schedule)
    x = last(ancestral(denoiser, first_x(), times, rng=Streams(SEEDS), eta=eta))
    expected = ddim_eq_12(first_x(), eta, Streams(SEEDS), list(range(T, -1, -T // n)))
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
@pytest.mark.parametrize("kind", GRIDS)
def test_ancestral_without_noise_is_ddim_is_euler(schedule: Schedule, kind: str) -> None:
    """Three ways to write one step, up to rounding."""
    denoiser, times = judge(schedule), grid(kind, 15, schedule)
    x = denoiser.process.prior((2,), Streams(range(8))).double()
    without_noise = ancestral(denoiser, x, times, rng=None, eta=0.0)
    for one, two, three in zip(without_noise, ddim(denoiser, x, times), euler(denoiser, x, times), strict=True):
        torch.testing.assert_close(two.x, one.x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(three.x, one.x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ancestral_is_euler_ancestral(schedule: Schedule, eta: float) -> None:
    """A draw from the posterior is a step down to less noise and noise put back; with the same noise, step by step."""
    denoiser, times = judge(schedule), grid("karras", 15, schedule)
    x = denoiser.process.prior((2,), Streams(range(8))).double()
    walks = [walk(denoiser, x, times, rng=Streams(range(20, 28)), eta=eta) for walk in (ancestral, euler_ancestral)]
    for one, two in zip(*walks, strict=True):
        torch.testing.assert_close(one.x, two.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
def test_one_step_to_the_end_is_the_belief(schedule: Schedule) -> None:
    denoiser, times = judge(schedule), grid("uniform", 1, schedule)
    x = denoiser.process.prior((2,), Streams(range(8))).double()
    belief = denoiser(x, times[0]).x0
    for walk in (
        ancestral(denoiser, x, times, rng=Streams(range(8))),
        ddim(denoiser, x, times),
        euler(denoiser, x, times),
    ):
        torch.testing.assert_close(last(walk), belief, rtol=1e-10, atol=1e-10)


def karras_algorithm_1(x: Tensor, sigmas: list[float]) -> Tensor:
    """Karras et al., 2022, algorithm 1 with sigma(t) = t, s(t) = 1, on falling noise levels that end at 0."""
    denoise = judge(EDM(1.0))
    for t, s in pairwise(sigmas):
        d = (x - denoise(x, torch.tensor(t, dtype=F64)).x0) / t
        ahead = x + (s - t) * d
        if s:
            d_ahead = (ahead - denoise(ahead, torch.tensor(s, dtype=F64)).x0) / s
            ahead = x + (s - t) * (d + d_ahead) / 2
        x = ahead
    return x


def test_heun_is_karras_algorithm_1() -> None:
    """Whose time is the noise level itself; carrara's is scaled to [0, 1]."""
    schedule = EDM(7.0)
    times = grid("karras", 9, schedule)
    x = 7 * first_x()[:, 0]
    walk = heun(judge(schedule), x, times)
    torch.testing.assert_close(last(walk), karras_algorithm_1(x, (7 * times).tolist()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("sampler", "midway"), [(euler, False), (heun, True)])
def test_flow_matching_walks_along_its_velocity(sampler: object, midway: bool) -> None:
    """x_s = x_t + (s − t) u, with u = eps − x0 = (x_t − x0) / t; Heun averages it with the velocity at the far end."""
    denoiser, x = judge(Flow()), first_x()[:, 0]
    velocity = lambda x, t: (x - denoiser(x, t).x0) / t  # noqa: E731
    times = grid("shifted", 8, Flow())
    walk = sampler(denoiser, x, times)
    for t, s in pairwise(times):
        u = velocity(x, t)
        if midway and s > 0:
            u = (u + velocity(x + (s - t) * u, s)) / 2
        x = x + (s - t) * u
        torch.testing.assert_close(next(walk).x, x, rtol=1e-10, atol=1e-10)
