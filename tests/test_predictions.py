"""Predictions: the rows of the papers. That every target gives back (x0, eps) is kept by laws/test_round_trips.py."""

import pytest
import torch

from carrara.denoisers import GaussianDenoiser
from carrara.errors import InputError
from carrara.predictions import PREDICTIONS, X0, EDMPrediction, Eps, V, Velocity, check_readable
from carrara.processes import Gaussian
from carrara.schedules import EDM, SCHEDULES, Cosine, CosineBeta, Flow, LinearBeta, ScaledLinearBeta, Schedule
from carrara.weights import Simple

T = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
each_schedule = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)


@each_schedule
def test_rows_are_the_papers(schedule: Schedule) -> None:
    alpha, sigma, zero, one = schedule.alpha(T), schedule.sigma(T), torch.zeros_like(T), torch.ones_like(T)
    for prediction, a, b in ((X0(), one, zero), (Eps(), zero, one), (V(), -sigma, alpha)):
        row = prediction.row(schedule, T)
        assert torch.equal(row.a, a)
        assert torch.equal(row.b, b)


@each_schedule
def test_velocity_is_the_derivative_of_the_path(schedule: Schedule) -> None:
    t, x0, eps = T.clone().requires_grad_(), 0.7, -1.9
    path = schedule.alpha(t) * x0 + schedule.sigma(t) * eps
    row = Velocity().row(schedule, T)
    torch.testing.assert_close(row.a * x0 + row.b * eps, torch.autograd.grad(path.sum(), t)[0], rtol=1e-9, atol=1e-9)


def test_velocity_of_the_flow_is_eps_minus_x0() -> None:
    row = Velocity().row(Flow(), T)
    assert torch.equal(row.a, -torch.ones_like(T))
    assert torch.equal(row.b, torch.ones_like(T))


@pytest.mark.parametrize("data_std", [0.3, 0.5, 1.0, 4.0])
@each_schedule
def test_edm_target_is_uncorrelated_with_its_input_and_both_have_variance_1(
    schedule: Schedule, data_std: float
) -> None:
    prediction = EDMPrediction(data_std)
    row, alpha, sigma = prediction.row(schedule, T), schedule.alpha(T), schedule.sigma(T)
    one, data = torch.ones_like(T), data_std**2
    input_variance = prediction.input_scale(schedule, T) ** 2 * (alpha**2 * data + sigma**2)
    torch.testing.assert_close(input_variance, one, rtol=1e-12, atol=0)
    torch.testing.assert_close(row.a**2 * data + row.b**2, one, rtol=1e-12, atol=0)
    torch.testing.assert_close(row.a * alpha * data + row.b * sigma, 0 * one, rtol=0, atol=1e-12)


def test_edm_prediction_is_karras_preconditioning() -> None:
    """D(x) = c_skip x + c_out F(c_in x), table 1."""
    data_std, schedule = 0.5, EDM(80.0)
    sigma = schedule.sigma(T)
    total = sigma**2 + data_std**2
    c_skip, c_out, c_in = data_std**2 / total, sigma * data_std / total.sqrt(), total.rsqrt()
    x = torch.randn(99, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * total.sqrt()

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor, cond: object = None) -> torch.Tensor:
            return (x + 1).sin()

    denoiser = GaussianDenoiser(Network(), Gaussian(schedule), EDMPrediction(data_std), Simple())
    expected = c_skip * x + c_out * (c_in * x + 1).sin()
    torch.testing.assert_close(denoiser(x, T).x0, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta()])
def test_edm_prediction_of_unit_data_is_minus_v(schedule: Schedule) -> None:
    edm, v = EDMPrediction(1.0).row(schedule, T), V().row(schedule, T)
    torch.testing.assert_close(edm.a, -v.a)
    torch.testing.assert_close(edm.b, -v.b)


@pytest.mark.parametrize("prediction", [X0, Eps, V, Velocity])
def test_only_edm_scales_its_input(prediction: type) -> None:
    assert torch.equal(prediction().input_scale(EDM(), T), torch.ones_like(T))


@each_schedule
@pytest.mark.parametrize("name", PREDICTIONS)
def test_determinant_is_that_of_the_system(schedule: Schedule, name: str) -> None:
    prediction = PREDICTIONS[name]()
    a, b = prediction.row(schedule, T)
    system = torch.stack([torch.stack([schedule.alpha(T), schedule.sigma(T)], -1), torch.stack([a, b], -1)], -2)
    torch.testing.assert_close(prediction.determinant(schedule, T), torch.linalg.det(system), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "schedule", [Flow(), Cosine(), LinearBeta(zero_terminal=True), ScaledLinearBeta(zero_terminal=True)]
)
def test_an_unreadable_pair_is_refused_when_it_is_put_together(schedule: Schedule) -> None:
    with pytest.raises(InputError) as caught:
        GaussianDenoiser(torch.nn.Identity(), Gaussian(schedule), Eps(), Simple())
    said = str(caught.value)
    assert type(schedule).__name__ in said
    assert "eps-prediction" in said
    for choice in ("v", "velocity", "x0", "edm", "without zero-terminal SNR"):
        assert choice in said.split("Choose")[1]


@pytest.mark.parametrize("schedule", [LinearBeta(), ScaledLinearBeta(), CosineBeta(), EDM()])
def test_eps_is_readable_where_something_of_the_data_is_left(schedule: Schedule) -> None:
    check_readable(schedule, Eps())


@pytest.mark.parametrize("data_std", [0.0, -1.0, float("nan")])
def test_data_without_spread_is_refused(data_std: float) -> None:
    with pytest.raises(InputError, match=r"data_std is .*must be positive"):
        EDMPrediction(data_std)
