"""The loss with weight "vlb" is the variational bound: on data whose information is known, it integrates to it exactly."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import F64, SCHEDULE_CASES

from carrara.denoisers import GaussianDenoiser
from carrara.predictions import X0, Prediction, V
from carrara.processes import Gaussian, like
from carrara.schedules import Schedule
from carrara.weights import VLB, Sigmoid

VARIANCE, FROM = 0.3, 1e-3
all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


class Linear(nn.Module):
    """In place of a network: the best output for data N(0, VARIANCE), times `skill`; it is linear in x_t."""

    def __init__(self, schedule: Schedule, prediction: Prediction, t: Tensor, skill: float = 1.0) -> None:
        super().__init__()
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        noisy = alpha**2 * VARIANCE + sigma**2
        row = prediction.row(schedule, t)
        self.gain = skill * (row.a * alpha * VARIANCE + row.b * sigma) / noisy

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        return like(self.gain, x) * x


class Signs:
    """In place of random streams: eps is ±1 over the last axis, which has the normal law's first two moments exactly."""

    def normal(self, shape: Sequence[int], dtype: object = None, device: object = None) -> Tensor:
        return torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)


def expected_loss(denoiser_at: Callable[[Tensor], GaussianDenoiser], t: Tensor) -> Tensor:
    """E loss at each t, exactly: it is quadratic in x0 and eps, so four pairs of signs have its mean."""
    x0 = VARIANCE**0.5 * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64).expand(len(t), 4)
    return denoiser_at(t).loss(x0, t, None, Signs())


def integral(f: Callable[[Tensor], Tensor], schedule: Schedule) -> float:
    """∫ f(t) dt from FROM to 1 by Gauss–Legendre in cells that end at the schedule's knots, if it has any."""
    edges = torch.logspace(math.log10(FROM), 0, 60, dtype=F64)
    if schedule.steps is not None:
        edges = torch.cat([edges, torch.arange(1, schedule.steps, dtype=F64) / schedule.steps]).unique()
        edges = edges[edges >= FROM]
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(6))
    half = edges.diff()[:, None] / 2
    t = edges[:-1, None] + half * (1 + nodes)
    return float((f(t.flatten()).reshape(t.shape) * half * weights).sum())


def information(schedule: Schedule, t: float) -> float:
    """I(x0; x_t) in nats: ½ log(1 + VARIANCE · SNR)."""
    return 0.5 * math.log1p(VARIANCE * math.exp(schedule.logsnr(torch.tensor(t, dtype=F64)).item()))


@all_schedules
@pytest.mark.parametrize("prediction", [X0(), V()], ids=["x0", "v"])
def test_loss_integrates_to_the_information_lost(schedule: Schedule, prediction: Prediction) -> None:
    """∫ ½ SNR′ mmse dt = I(x0; x_FROM) − I(x0; x_1) (Guo, Shamai & Verdú, 2005)."""

    def bound(skill: float) -> float:
        def denoiser_at(t: Tensor) -> GaussianDenoiser:
            return GaussianDenoiser(Linear(schedule, prediction, t, skill), Gaussian(schedule), prediction, VLB())

        return integral(lambda t: expected_loss(denoiser_at, t), schedule)

    exact = information(schedule, FROM) - information(schedule, 1.0)
    assert bound(1.0) == pytest.approx(exact, rel=1e-6)
    assert bound(0.8) > exact + 1e-3
    assert bound(1.2) > exact + 1e-3


@all_schedules
def test_bound_does_not_depend_on_the_path_between_its_ends(schedule: Schedule) -> None:
    """Only the end points of logsnr matter (Kingma et al., 2021, section 5.1): any w(logsnr) · rate integrates in logsnr."""
    lam = torch.linspace(*(schedule.logsnr(torch.tensor([0.999, FROM], dtype=F64)).tolist()), 20001, dtype=F64)
    for weight in (VLB(), Sigmoid(1.5)):
        over_t = integral(lambda t, w=weight: w(schedule.logsnr(t), schedule.rate(t)) * (t < 0.999), schedule)
        over_logsnr = float(torch.trapezoid(weight(lam, torch.ones_like(lam)), lam))
        assert over_t == pytest.approx(over_logsnr, rel=2e-3)


@all_schedules
def test_finite_where_nothing_of_the_data_is_left(schedule: Schedule) -> None:
    """At alpha = 0 the rate is infinite; the weights' limit is not."""
    t = torch.ones(3, dtype=F64)
    for weight in (VLB(), Sigmoid()):
        value = weight(schedule.logsnr(t), schedule.rate(t))
        assert bool(value.isfinite().all())
        if schedule.zero_terminal:
            assert bool((value == 0).all())
            before = 1 - torch.tensor([1e-9], dtype=F64)
            assert weight(schedule.logsnr(before), schedule.rate(before)).item() < 1e-6
