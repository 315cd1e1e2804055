"""Every readable pair of schedule and prediction gives back (x0, eps) from its own target."""

import pytest
import torch
from torch import Tensor
from toys import F64, SCHEDULE_CASES

from carrara.errors import InputError
from carrara.predictions import PREDICTIONS, EDMPrediction, check_readable, solve, x0_reading
from carrara.schedules import Schedule

CASES = PREDICTIONS.keys() | {"edm, wide data"}
TINY = torch.tensor([1e-12, 1e-9, 1e-7], dtype=F64)
TIMES = torch.cat([torch.tensor([1e-5, 1e-4, 1 - 1e-9, 1], dtype=F64), torch.linspace(0.001, 0.999, 997, dtype=F64)])


def prediction_called(name: str) -> object:
    return EDMPrediction(data_std=3.0) if name == "edm, wide data" else PREDICTIONS[name]()


def round_trip(schedule: Schedule, name: str, t: Tensor) -> tuple[float, float]:
    """Largest errors of x0 and of eps, both of size 1."""
    prediction = prediction_called(name)
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 5, 1, dtype=F64, generator=generator)
    row, alpha, sigma = prediction.row(schedule, t), schedule.alpha(t), schedule.sigma(t)
    raw, x_t = row.a * x0 + row.b * eps, alpha * x0 + sigma * eps
    read_x0, read_eps = solve(row, raw, x_t, alpha, sigma)
    p, q = x0_reading(row, alpha, sigma)
    assert torch.allclose(p * x_t + q * raw, read_x0, rtol=0, atol=1e-9)
    return float((read_x0 - x0).abs().max()), float((read_eps - eps).abs().max())


def readable(schedule: Schedule, name: str) -> bool:
    return not (name == "eps" and schedule.zero_terminal)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
def test_target_gives_back_data_and_noise(schedule: Schedule, name: str) -> None:
    if not readable(schedule, name):
        with pytest.raises(InputError, match=r"t = 1.*Choose prediction v, velocity, x0 or edm"):
            check_readable(schedule, prediction_called(name))
        return
    check_readable(schedule, prediction_called(name))
    assert max(round_trip(schedule, name, TIMES)) < 1e-9
    assert round_trip(schedule, name, TINY)[0] < 1e-9


def test_both_kinds_of_pair_occur() -> None:
    kinds = {readable(schedule, name) for schedule in SCHEDULE_CASES.values() for name in CASES}
    refused = [name for name, schedule in SCHEDULE_CASES.items() if not readable(schedule, "eps")]
    assert kinds == {True, False}
    assert {"flow", "cosine", "linear_beta, zero terminal", "scaled_linear_beta, zero terminal"} == set(refused)
