"""The judge itself: against numerical integration, automatic derivatives, and its own samples."""

import math

import pytest
import torch
from torch import Tensor

from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.schedules import SCHEDULES, Cosine, Flow, Schedule

F64 = torch.float64
each_schedule = pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)


def on_a_line() -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([[-1.0], [0.4], [1.5]], dtype=F64),
        torch.tensor([0.04, 0.2, 0.09], dtype=F64),
        torch.tensor([0.5, 0.2, 0.3], dtype=F64),
    )


def in_the_plane() -> GaussianMixture:
    return GaussianMixture(
        torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.2, -0.8]], dtype=F64),
        torch.tensor([0.05, 0.1, 0.3], dtype=F64),
        torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    )


def normal_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return (-((x - mean) ** 2) / (2 * variance)).exp() / (2 * math.pi * variance).sqrt()


@each_schedule
@pytest.mark.parametrize("t", [0.02, 0.3, 0.6, 0.9])
def test_belief_is_the_integral_over_the_posterior(schedule: Schedule, t: float) -> None:
    """E[x0 | x_t] = ∫ x0 p(x0) q(x_t | x0) dx0 / ∫ p(x0) q(x_t | x0) dx0, on a fine grid; so is the noisy density."""
    data, time = on_a_line(), torch.tensor(t, dtype=F64)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    x0 = torch.linspace(-4, 5, 9001, dtype=F64)
    x_t = alpha * torch.linspace(-1.8, 2.4, 9, dtype=F64) + 0.8 * sigma
    prior = sum(
        w * normal_density(x0, m, v) for w, m, v in zip(data.weights, data.means[:, 0], data.variances, strict=True)
    )
    joint = torch.stack([prior * normal_density(x, alpha * x0, sigma**2) for x in x_t])
    evidence = torch.trapezoid(joint, x0)
    belief = MixtureDenoiser(data, Gaussian(schedule))(x_t[:, None], time).x0[:, 0]
    torch.testing.assert_close(belief, torch.trapezoid(joint * x0, x0) / evidence, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(data.noisy(alpha, sigma).log_prob(x_t[:, None]), evidence.log(), rtol=1e-7, atol=1e-7)


@each_schedule
@pytest.mark.parametrize("t", [0.001, 0.3, 0.8, 0.999])
def test_belief_is_tweedies_formula(schedule: Schedule, t: float) -> None:
    """x0 = (x_t + sigma² score) / alpha with the score of the noisy law by automatic differentiation."""
    data, time = in_the_plane(), torch.tensor(t, dtype=F64)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    rng = Streams(range(10))
    x_t = (alpha * data.sample(rng) + sigma * rng.normal((2,), F64)).requires_grad_()
    score = torch.autograd.grad(data.noisy(alpha, sigma).log_prob(x_t).sum(), x_t)[0]
    belief = MixtureDenoiser(data, Gaussian(schedule))(x_t.detach(), time).x0
    torch.testing.assert_close(belief, (x_t.detach() + sigma**2 * score) / alpha, rtol=1e-7, atol=1e-7)


def test_belief_at_the_ends() -> None:
    """Nothing left: the data's mean. Hardly any noise: x_t itself."""
    data, x = in_the_plane(), torch.tensor([[0.9, 1.1], [-1.2, 0.8]], dtype=F64)
    denoiser = MixtureDenoiser(data, Gaussian(Cosine()))
    torch.testing.assert_close(denoiser(x, torch.ones((), dtype=F64)).x0, data.mean.expand(2, 2))
    torch.testing.assert_close(denoiser(x, torch.tensor(1e-7, dtype=F64)).x0, x)


def test_belief_has_the_samples_dtype() -> None:
    denoiser = MixtureDenoiser(in_the_plane(), Gaussian(Flow()))
    x, t = torch.tensor([[0.9, 1.1]]), torch.tensor(0.4, dtype=F64)
    torch.testing.assert_close(denoiser(x, t).x0.double(), denoiser(x.double(), t).x0, rtol=1e-5, atol=1e-5)


def test_density_integrates_to_one_and_has_the_stated_moments() -> None:
    data, x = on_a_line(), torch.linspace(-6, 7, 20001, dtype=F64)
    p = data.log_prob(x[:, None]).exp()
    mean = torch.trapezoid(p * x, x)
    assert float(torch.trapezoid(p, x)) == pytest.approx(1, abs=1e-9)
    assert float(mean) == pytest.approx(data.mean.item(), abs=1e-9)
    assert float(torch.trapezoid(p * (x - mean) ** 2, x)) == pytest.approx(data.covariance.item(), abs=1e-9)


def test_density_in_the_plane_is_the_product_along_the_axes() -> None:
    one = GaussianMixture(
        torch.tensor([[0.3, -0.7]], dtype=F64), torch.tensor([0.4], dtype=F64), torch.ones(1, dtype=F64)
    )
    x = torch.tensor([[0.1, 0.2], [-1.0, 2.0]], dtype=F64)
    expected = normal_density(x, one.means, one.variances).log().sum(-1)
    torch.testing.assert_close(one.log_prob(x), expected, rtol=1e-12, atol=0)


def test_samples_have_the_stated_moments() -> None:
    data, n = in_the_plane(), 6000
    x = data.sample(Streams(range(n)))
    assert torch.equal(x[40:45], data.sample(Streams(range(40, 45))))
    centred = x - data.mean
    products = centred[:, :, None] * centred[:, None]
    for values, expected in ((x, data.mean), (products, data.covariance)):
        z = (values.mean(0) - expected) / (values.std(0) / n**0.5)
        assert z.abs().max() < 4
