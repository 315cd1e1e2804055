"""docs/mathematics.md, the bounds: maximum likelihood, the VAE's bound and DDPM's, where every term is known exactly."""

from itertools import pairwise

import pytest
import torch
from quadrature import divergence, expected, gauss, log_normal, log_prob, normal, on_a_line
from torch import Tensor
from toys import F64, OneGaussian, scalar

from carrara.analytic import MixtureDenoiser
from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.schedules import CosineBeta, LinearBeta, Schedule
from carrara.times import uniform

TABLES: dict[str, Schedule] = {"linear_beta": LinearBeta(20, 0.005, 0.4), "cosine_beta": CosineBeta(12)}
all_tables = pytest.mark.parametrize("schedule", TABLES.values(), ids=TABLES)
X0 = torch.tensor([-1.7, -0.2, 0.0, 0.9, 2.4], dtype=F64)


def test_most_likely_is_nearest_in_divergence() -> None:
    """E log q = −H(p) − KL(p ‖ q) over a family of q: the left side from 4000 samples, the right by quadrature."""
    data, models = on_a_line(), [normal(m, v) for m in (-1.0, -0.18, 0.5) for v in (0.6, 1.3, 2.5)]
    x = data.sample(Streams(range(4000)))
    likelihoods = torch.stack([model.log_prob(x) for model in models])

    def divergence_from_data(model: object) -> Tensor:
        p = lambda x: log_prob(data, x)  # noqa: E731
        return gauss(lambda x: p(x).exp() * (p(x) - log_prob(model, x)), -8, 8)  # type: ignore[arg-type]

    entropy = -gauss(lambda x: log_prob(data, x).exp() * log_prob(data, x), -8, 8)
    divergences = torch.stack([divergence_from_data(model) for model in models])
    error = likelihoods.std(1) / x.shape[0] ** 0.5
    assert ((likelihoods.mean(1) + entropy + divergences) / error).abs().max() < 4
    assert likelihoods.mean(1).argmax() == divergences.argmin()
    nearest = divergence_from_data(normal(data.mean, data.covariance))
    assert nearest < divergences.min()
    for mean, variance in ((0.02, 1.0), (-0.02, 1.0), (0, 1.02), (0, 0.98)):
        assert divergence_from_data(normal(data.mean + mean, data.covariance * variance)) > nearest


@pytest.mark.parametrize(
    ("gain", "shift", "spread"), [(1.0, 0.0, 1.0), (0.7, 0.0, 1.0), (1.0, 0.3, 1.0), (1.2, 0.1, 2)]
)
def test_a_linear_vae_s_bound_misses_by_the_encoder_s_divergence(gain: float, shift: float, spread: float) -> None:
    """E_q log p(x | z) − KL(q(z | x) ‖ p(z)) = log p(x) − KL(q(z | x) ‖ p(z | x)), with one corruption as the decoder.

    z is N(0, 1), x = alpha z + sigma eps. The encoder is the exact one times `gain`, plus `shift`, `spread` times as wide.
    """
    process, t, x = Gaussian(LinearBeta()), scalar(0.4), X0
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    exact = MixtureDenoiser(normal(0, 1), process)(x[:, None], t).x0[:, 0]
    exact_variance = sigma**2 / (alpha**2 + sigma**2)
    mean, variance = gain * exact + shift, spread * exact_variance * torch.ones_like(x)
    decoded = expected(
        lambda z: log_normal(x[:, None], alpha * (mean[:, None] + variance[:, None].sqrt() * z), sigma**2)
    )
    bound = decoded - divergence(mean, variance, torch.zeros_like(x), torch.ones_like(x))
    gap = divergence(mean, variance, exact, exact_variance)
    evidence = log_prob(normal(0, 1).noisy(alpha, sigma), x)
    torch.testing.assert_close(bound, evidence - gap, rtol=1e-12, atol=1e-12)
    assert bool((gap > 1e-3).any()) is ((gain, shift, spread) != (1.0, 0.0, 1.0))


class Reverse:
    """The reverse process of DDPM for data N(0, variance): the belief is the exact one times `skill`, of exact width or none."""

    def __init__(self, schedule: Schedule, variance: float = 1.0, skill: float = 1.0, wide: bool = True) -> None:
        self.denoiser, self.skill, self.wide = OneGaussian(schedule, variance), skill, wide
        self.process = self.denoiser.process
        self.pairs = list(pairwise(uniform(schedule.steps or 1, schedule)))

    def belief(self, x_t: Tensor, t: Tensor) -> Point:
        data, schedule = self.denoiser, self.process.schedule
        spread = data.variance * schedule.sigma(t) ** 2 / data.noisy_variance(t)
        # The last step draws x_0 and needs a width in any case.
        return Point(
            self.skill * data(x_t, t).x0, spread.expand_as(x_t) if self.wide or t == self.pairs[-1][0] else None
        )

    def step(self, x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, variance) of p(x_s | x_t), by the library."""
        return self.process.reverse(x_t, self.belief(x_t, t), t, s)

    def evidence(self, x0: Tensor) -> Tensor:
        """log p(x0), exactly: every step is linear, so only a variance travels from the prior to the data."""
        one, variance = torch.ones(1, dtype=F64), torch.ones(1, dtype=F64)
        for t, s in self.pairs:
            gain, added = self.step(one, t, s)
            variance = gain**2 * variance + added
        return log_normal(x0, 0.0, variance)

    def bound(self, x0: Tensor) -> Tensor:
        """L_T + Σ L_{t−1} + L_0 in nats, of x0's shape; the expectations are of quadratics, so quadrature is exact."""
        schedule, one = self.process.schedule, torch.ones((), dtype=F64)
        total = divergence(schedule.alpha(one) * x0, schedule.sigma(one) ** 2, 0 * x0, one)
        for t, s in self.pairs:
            total = total + expected(lambda z, t=t, s=s: self.term(x0[:, None], z, t, s))
        return total

    def term(self, x0: Tensor, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) at x_t = alpha x0 + sigma z; −log p(x0 | x_t) in the step to s = 0."""
        x_t = self.process.mix(*torch.broadcast_tensors(x0, z), t)
        mean, variance = self.step(x_t, t, s)
        if s == 0:
            return -log_normal(x0, mean, variance)
        return divergence(
            self.process.posterior_mean(x_t, x0, t, s), self.process.posterior_variance(t, s), mean, variance
        )


@all_tables
@pytest.mark.parametrize("wide", [True, False], ids=["width", "no width"])
@pytest.mark.parametrize("skill", [0.8, 1.0, 1.1])
def test_the_three_terms_bound_the_likelihood(schedule: Schedule, skill: float, wide: bool) -> None:
    """−log p(x0) ≤ L_T + Σ L + L_0 at every x0; equal where the reverse process is exact and the prior fits."""
    model = Reverse(schedule, 1.0, skill, wide)
    gap = model.bound(X0) + model.evidence(X0)
    if skill == 1 and wide:
        torch.testing.assert_close(gap, torch.zeros_like(gap), rtol=0, atol=1e-10)
    else:
        assert gap.min() > 1e-3


@all_tables
@pytest.mark.parametrize("variance", [0.3, 1.0, 1.6])
def test_an_exact_reverse_process_pays_for_the_prior_only(schedule: Schedule, variance: float) -> None:
    """Averaged over the data, bound = entropy + KL(q(x_1) ‖ prior)."""
    model, one = Reverse(schedule, variance), torch.ones((), dtype=F64)
    average = expected(lambda z: model.bound(variance**0.5 * z))
    entropy = 0.5 * (2 * torch.pi * torch.e * scalar(variance)).log()
    paid = divergence(0 * one, model.denoiser.noisy_variance(one), 0 * one, one)
    torch.testing.assert_close(average, entropy + paid, rtol=1e-10, atol=1e-10)
    assert expected(lambda z: Reverse(schedule, variance, wide=False).bound(variance**0.5 * z)) > average + 1e-3


@all_tables
def test_the_path_s_likelihood_can_be_read_from_its_end(schedule: Schedule) -> None:
    """Π q(x_t | x_{t−1}) = q(x_T | x0) Π q(x_{t−1} | x_t, x0) on any path: the rearrangement that gives the three terms."""
    process, steps = Gaussian(schedule), schedule.steps or 1
    path = torch.randn(steps + 1, 50, dtype=F64, generator=torch.Generator().manual_seed(1))
    t = torch.arange(steps + 1, dtype=F64) / steps
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    backward = log_normal(path[-1], alpha[-1] * path[0], sigma[-1] ** 2)
    forward = torch.zeros_like(backward)
    for i in range(1, steps + 1):
        kept = alpha[i] / alpha[i - 1]
        forward += log_normal(path[i], kept * path[i - 1], sigma[i] ** 2 - (kept * sigma[i - 1]) ** 2)
        if i > 1:
            mean = process.posterior_mean(path[i], path[0], t[i], t[i - 1])
            backward += log_normal(path[i - 1], mean, process.posterior_variance(t[i], t[i - 1]))
    torch.testing.assert_close(forward, backward, rtol=1e-9, atol=1e-9)
