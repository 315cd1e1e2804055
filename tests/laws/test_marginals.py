"""A step back composes with the forward process: coefficients are read off by feeding ones and zeros, so nothing is random."""

import pytest
import torch
from torch import Tensor
from toys import F64, SCHEDULE_CASES, Impulses

from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.schedules import Schedule
from carrara.weights import VLB

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


def pairs_of_times() -> tuple[Tensor, Tensor]:
    """Every (t, s < t) of a list of times with both ends and their neighbourhoods."""
    ends = torch.tensor([0, 1e-9, 1e-5, 1e-3, 1 - 1e-4, 1 - 1e-9, 1], dtype=F64)
    times = torch.cat([ends, torch.linspace(0.013, 0.987, 40, dtype=F64)]).sort().values
    s, t = torch.combinations(times).unbind(-1)
    return t, s


def coefficients(process: Gaussian, t: Tensor, s: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(on x_t, on x0, on fresh noise) of one step back."""
    one, zero = torch.ones_like(t), torch.zeros_like(t)

    class Ones:
        def normal(self, shape: object, dtype: object = None, device: object = None) -> Tensor:
            return one

    class Zeros:
        def normal(self, shape: object, dtype: object = None, device: object = None) -> Tensor:
            return zero

    on_x_t = process.step(one, Point(zero), t, s, Zeros(), eta=eta)
    on_x0 = process.step(zero, Point(one), t, s, Zeros(), eta=eta)
    return on_x_t, on_x0, process.step(zero, Point(zero), t, s, Ones(), eta=eta)


@all_schedules
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
def test_step_after_corruption_has_the_marginal(schedule: Schedule, eta: float) -> None:
    """q(x_s | x_t, x0) after q(x_t | x0) is q(x_s | x0), whatever share of new noise is added."""
    t, s = pairs_of_times()
    on_x_t, on_x0, on_noise = coefficients(Gaussian(schedule), t, s, eta)
    mean = on_x0 + on_x_t * schedule.alpha(t)
    variance = on_noise**2 + (on_x_t * schedule.sigma(t)) ** 2
    torch.testing.assert_close(mean, schedule.alpha(s), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, schedule.sigma(s) ** 2, rtol=1e-12, atol=0)


@all_schedules
def test_step_is_bayes_rule(schedule: Schedule) -> None:
    """The posterior is the product of q(x_t | x_s) and q(x_s | x0), renormalised."""
    t, s = pairs_of_times()
    alpha_t, sigma_t, alpha_s, sigma_s = (f(u) for u in (t, s) for f in (schedule.alpha, schedule.sigma))
    a = alpha_t / alpha_s
    forward = sigma_t**2 - (a * sigma_s) ** 2
    clear = (s > 1e-4) & (forward / sigma_t**2 > 1e-4)
    precision = 1 / sigma_s**2 + a**2 / forward
    on_x_t, on_x0, on_noise = coefficients(Gaussian(schedule), t, s, 1.0)
    for ours, bayes in (
        (on_x_t, a / forward / precision),
        (on_x0, alpha_s / sigma_s**2 / precision),
        (on_noise**2, 1 / precision),
    ):
        torch.testing.assert_close(ours[clear], bayes[clear], rtol=1e-9, atol=1e-11)
    assert clear.sum() > 400


@all_schedules
def test_posterior_moments_are_those_of_the_step(schedule: Schedule) -> None:
    process, (t, s) = Gaussian(schedule), pairs_of_times()
    on_x_t, on_x0, on_noise = coefficients(process, t, s, 1.0)
    x_t, x0 = torch.full_like(t, 0.7), torch.full_like(t, -1.3)
    torch.testing.assert_close(
        process.posterior_mean(x_t, x0, t, s), 0.7 * on_x_t - 1.3 * on_x0, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(process.posterior_variance(t, s), on_noise**2, rtol=1e-12, atol=0)


@all_schedules
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_two_steps_are_one(schedule: Schedule, eta: float) -> None:
    """t → r → s with x0 known is t → s: no time between leaves a trace."""
    times = torch.tensor([0, 1e-5, 0.01, 0.05, 0.2, 0.35, 0.5, 0.72, 0.9, 0.99, 1], dtype=F64)
    s, r, t = torch.combinations(times, 3).unbind(-1)
    process = Gaussian(schedule)
    first, second, whole = (coefficients(process, *pair, eta) for pair in ((t, r), (r, s), (t, s)))
    torch.testing.assert_close(second[0] * first[0], whole[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(second[0] * first[1] + second[1], whole[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close((second[0] * first[2]) ** 2 + second[2] ** 2, whole[2] ** 2, rtol=1e-9, atol=1e-12)


@all_schedules
def test_divergence_of_a_step_is_the_gain_in_signal(schedule: Schedule) -> None:
    """KL(q(x_s | x_t, x0) ‖ q(x_s | x_t, belief)) = ½ (SNR_s − SNR_t) (x0 − belief)², whose rate is the weight "vlb"."""
    process, t = Gaussian(schedule), torch.linspace(0.03, 0.97, 95, dtype=F64)
    x_t, x0, belief = torch.full_like(t, 0.4), torch.full_like(t, 1.1), torch.full_like(t, -0.6)
    snr = lambda u: schedule.logsnr(u).exp()  # noqa: E731
    for s in (t - 0.01, 0.3 * t):
        gap = process.posterior_mean(x_t, x0, t, s) - process.posterior_mean(x_t, belief, t, s)
        divergence = gap**2 / (2 * process.posterior_variance(t, s))
        torch.testing.assert_close(divergence, 0.5 * (snr(s) - snr(t)) * 1.7**2, rtol=1e-8, atol=0)
    weight = VLB()(schedule.logsnr(t + 5e-5), schedule.rate(t + 5e-5))
    in_one_cell = t - 1e-6
    gain = 0.5 * (snr(in_one_cell + 5e-5) - snr(in_one_cell + 5.2e-5)) / 2e-6
    torch.testing.assert_close(weight, gain, rtol=1e-4, atol=0)


def test_no_noise_is_drawn_at_eta_zero() -> None:
    process, rng = Gaussian(SCHEDULE_CASES["flow"]), Impulses(3)
    x, t, s = torch.ones(3, 2), torch.tensor(0.5, dtype=F64), torch.tensor(0.25, dtype=F64)
    process.step(x, Point(x), t, s, rng, eta=0.0)
    assert rng.drawn == 0
    process.step(x, Point(x), t, s, rng, eta=1.0)
    assert rng.drawn == 1
