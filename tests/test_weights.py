"""Weights: each written once on the error of x0, so that what a network is asked for does not change its loss."""

import math

import pytest
import torch
from torch import Tensor, nn

from carrara.denoisers import GaussianDenoiser
from carrara.errors import InputError
from carrara.predictions import PREDICTIONS, X0, EDMPrediction, Eps, Prediction, V, Velocity
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import EDM, SCHEDULES, Cosine, CosineBeta, Flow, LinearBeta, ScaledLinearBeta, Schedule
from carrara.weights import VLB, WEIGHTS, EDMWeight, MinSNR, Sigmoid, Simple, UnitFlow, UnitV, UnitX0, Weight

F64 = torch.float64
T = torch.cat([torch.tensor([1e-4, 1e-3, 1], dtype=F64), torch.linspace(0.01, 0.99, 61, dtype=F64)])
ALL = {name: make() for name, make in SCHEDULES.items()} | {
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True)
}
each_schedule = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL)


class Believes(nn.Module):
    """In place of a network: the output that stands for a given belief, whatever the prediction."""

    def __init__(self, prediction: Prediction, schedule: Schedule, t: Tensor, x_t: Tensor, belief: Tensor) -> None:
        super().__init__()
        row = prediction.row(schedule, t)
        eps = (x_t - like(schedule.alpha(t), x_t) * belief) / like(schedule.sigma(t), x_t)
        self.output = like(row.a, x_t) * belief + like(row.b, x_t) * eps

    def forward(self, x: Tensor, level: Tensor, cond: object = None) -> Tensor:
        return self.output


def draw() -> tuple[Tensor, Tensor]:
    """(x0, an error of it) for each time of T, (B, 2, 3)."""
    return torch.randn(2, len(T), 2, 3, dtype=F64, generator=torch.Generator().manual_seed(1)).unbind()


def readable(schedule: Schedule, prediction: Prediction) -> bool:
    return not (isinstance(prediction, Eps) and schedule.zero_terminal)


@each_schedule
@pytest.mark.parametrize("name", WEIGHTS)
def test_loss_is_the_weight_on_the_error_of_x0_whatever_is_predicted(schedule: Schedule, name: str) -> None:
    weight, process, (x0, error) = WEIGHTS[name](), Gaussian(schedule), draw()
    x_t = process.corrupt(x0, T, Streams(range(len(T))))[0]
    expected = weight(schedule.logsnr(T), schedule.rate(T)) * error.square().mean((1, 2))
    predictions = [make() for make in PREDICTIONS.values()]
    predictions = [prediction for prediction in predictions if readable(schedule, prediction)]
    assert len(predictions) >= 4
    for prediction in predictions:
        network = Believes(prediction, schedule, T, x_t, x0 + error)
        loss = GaussianDenoiser(network, process, prediction, weight).loss(x0, T, None, Streams(range(len(T))))
        # A sum of two parts, one weighted e^logsnr, loses the digits by which e^logsnr exceeds 1.
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "prediction", "schedules"),
    [
        (Simple(), Eps(), [LinearBeta(), ScaledLinearBeta(), CosineBeta(), EDM()]),
        (UnitX0(), X0(), list(ALL.values())),
        (UnitV(), V(), [Cosine(), LinearBeta(), ScaledLinearBeta(), CosineBeta(), LinearBeta(zero_terminal=True)]),
        (UnitFlow(), Velocity(), [Flow()]),
        (EDMWeight(0.5), EDMPrediction(0.5), list(ALL.values())),
        (EDMWeight(2.0), EDMPrediction(2.0), list(ALL.values())),
    ],
    ids=["simple eps", "x0", "v", "flow", "edm 0.5", "edm 2"],
)
def test_plain_mean_squares_have_weight_1(weight: Weight, prediction: Prediction, schedules: list[Schedule]) -> None:
    for schedule in schedules:
        raw_weight = GaussianDenoiser(nn.Identity(), Gaussian(schedule), prediction, weight).raw_weight(T)
        torch.testing.assert_close(raw_weight, torch.ones_like(T), rtol=1e-9, atol=0)


def test_min_snr_in_each_paper_s_form() -> None:
    """Hang et al., 2023: min(SNR, γ) on x0, min(SNR, γ)/SNR on eps, min(SNR, γ)/(SNR + 1) on v."""
    schedule, gamma = LinearBeta(), 5.0
    snr = schedule.logsnr(T).exp()
    held = snr.clamp(max=gamma)
    assert bool((snr > gamma).any() and (snr < gamma).any())
    for prediction, expected in ((X0(), held), (Eps(), held / snr), (V(), held / (snr + 1))):
        ours = GaussianDenoiser(nn.Identity(), Gaussian(schedule), prediction, MinSNR(gamma)).raw_weight(T)
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0)


def test_edm_weight_is_karras_lambda() -> None:
    sigma, std = EDM().sigma(T), 0.7
    expected = (sigma**2 + std**2) / (sigma * std) ** 2
    torch.testing.assert_close(EDMWeight(std)(EDM().logsnr(T), EDM().rate(T)), expected, rtol=1e-12, atol=0)


def test_bound_is_half_the_rate_of_eps() -> None:
    """Kingma et al., 2021: ½ γ′(t) ‖eps − belief‖², γ = −logsnr, so on eps the weight is half the rate."""
    schedule, t = LinearBeta(), T[T < 1]
    ours = GaussianDenoiser(nn.Identity(), Gaussian(schedule), Eps(), VLB()).raw_weight(t)
    torch.testing.assert_close(ours, schedule.rate(t) / 2, rtol=1e-9, atol=0)


def test_sigmoid_holds_back_fine_detail_and_is_the_bound_where_its_bias_is_large() -> None:
    schedule, t = Cosine(), T[T < 1]
    logsnr, rate = schedule.logsnr(t), schedule.rate(t)
    share = Sigmoid(-1.0)(logsnr, rate) / VLB()(logsnr, rate)
    torch.testing.assert_close(share, 1 / (1 + (logsnr + 1).exp()), rtol=1e-9, atol=0)
    torch.testing.assert_close(Sigmoid(50.0)(logsnr, rate), VLB()(logsnr, rate), rtol=1e-9, atol=0)


@each_schedule
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_on_the_output_are_finite_and_not_negative(schedule: Schedule, name: str) -> None:
    t = torch.cat([T, torch.tensor([1e-5, 1 - 1e-12, math.nextafter(1, 0)], dtype=F64)])
    for make in PREDICTIONS.values():
        if readable(schedule, make()):
            raw_weight = GaussianDenoiser(nn.Identity(), Gaussian(schedule), make(), WEIGHTS[name]()).raw_weight(t)
            assert bool(raw_weight.isfinite().all() and (raw_weight >= 0).all())
            assert bool((raw_weight[t < 0.99] > 0).all())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_options_must_be_positive(value: float) -> None:
    with pytest.raises(InputError, match=r"gamma is .*must be positive"):
        MinSNR(value)
    with pytest.raises(InputError, match=r"data_std is .*must be positive"):
        EDMWeight(value)
