"""DPM-Solver++ in its paper's symbols."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.samplers import dpmpp_2m
from carrara.samplers.levels import hold
from carrara.schedules import SCHEDULES, Cosine, LinearBeta, Schedule

F64 = torch.float64
TIMES = torch.tensor([0.95, 0.8, 0.5, 0.42, 0.2, 0.03, 0.0], dtype=F64)


class Smooth:
    def __init__(self, schedule: Schedule) -> None:
        self.process = Gaussian(schedule)

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        return Point(torch.sin(2 * x_t) * (1 - t / 2))


def algorithm_2(schedule: Schedule, x: Tensor, times: list[Tensor]) -> list[Tensor]:
    """Lu et al., 2022, algorithm 2, lambda = log(alpha / sigma): D = (1 + 1/2r) x0_now − 1/2r x0_before, r = h_before / h."""
    lam = lambda t: math.log(schedule.alpha(t) / schedule.sigma(t))  # noqa: E731
    beliefs, path, h_before = [], [], 0.0
    for index, (t, s) in enumerate(pairwise(times)):
        beliefs.append(Smooth(schedule)(x, t).x0)
        h, d = lam(s) - lam(t), beliefs[-1]
        if index > 0:
            r = h_before / h
            d = (1 + 1 / (2 * r)) * beliefs[-1] - 1 / (2 * r) * beliefs[-2]
        x = schedule.sigma(s) / schedule.sigma(t) * x - schedule.alpha(s) * (math.exp(-h) - 1) * d
        h_before = h
        path.append(x)
    return path


def test_dpmpp_2m_is_algorithm_2() -> None:
    """On uneven steps, up to the last, where logsnr is infinite and the belief itself is the answer."""
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    for schedule in (Cosine(), LinearBeta()):
        steps = list(dpmpp_2m(Smooth(schedule), x, TIMES))
        for step, expected in zip(steps, algorithm_2(schedule, x, list(TIMES[:-1])), strict=False):
            torch.testing.assert_close(step.x, expected, rtol=1e-9, atol=1e-9)
        assert torch.equal(steps[-1].x, steps[-1].belief.preview)


def test_a_held_belief_is_integrated_exactly() -> None:
    """`hold` is DDIM's step: alpha_s x0 + sigma_s eps, also from t = 1 and to t = 0."""
    x, x0 = torch.tensor([[0.3, -1.2]], dtype=F64), torch.tensor([[0.5, 0.1]], dtype=F64)
    for schedule in (make() for make in SCHEDULES.values()):
        process = Gaussian(schedule)
        for t, s in ((1.0, 0.6), (0.6, 0.55), (0.5, 0.001), (0.4, 0.0), (1.0, 0.0)):
            t, s = torch.tensor(t, dtype=F64), torch.tensor(s, dtype=F64)
            expected = process.step(x, Point(x0), t, s, None, eta=0.0)
            held = hold(x, x0, *process.schedule.levels(torch.stack([t, s])))
            torch.testing.assert_close(held, expected, rtol=1e-10, atol=1e-10)
