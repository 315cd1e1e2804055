"""docs/mathematics.md, the chain: one-step kernels, the posterior, divergences of Gaussians, from means to eps, widths."""

import pytest
import torch
from quadrature import divergence, gauss, log_normal, log_prob, normal, on_a_line
from torch import Tensor
from toys import F64, SCHEDULE_CASES, SMOOTH, Impulses, OneGaussian, last, scalar

from carrara.analytic import MixtureDenoiser
from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.samplers import ancestral
from carrara.schedules import LinearBeta, Schedule, Table
from carrara.times import grid, uniform
from carrara.weights import VLB

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
smooth_schedules = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
PAIRS = [(0.9, 0.8), (0.6, 0.15), (0.5, 0.45), (0.2, 0.05)]


def test_steps_compose_to_one_corruption() -> None:
    """x_i = √(1 − beta_i) x_{i−1} + √beta_i z_i from x_0 = 1: after every step the mean and variance are `mix`'s."""
    betas = torch.linspace(0.005, 0.4, 20, dtype=F64)
    process, zero = Gaussian(Table(betas)), torch.zeros((), dtype=F64)
    noise, mean, response = Impulses(20), torch.ones((), dtype=F64), torch.zeros(20, dtype=F64)
    for i, beta in enumerate(betas, start=1):
        t = scalar(i / 20)
        mean, response = (1 - beta).sqrt() * mean, (1 - beta).sqrt() * response + beta.sqrt() * noise.normal(())
        torch.testing.assert_close(mean, process.mix(zero + 1, zero, t), rtol=1e-12, atol=0)
        torch.testing.assert_close(response.square().sum(), process.mix(zero, zero + 1, t) ** 2, rtol=1e-12, atol=0)


class FirstRow:
    """In place of random streams: 1 for the first sample, 0 for the second."""

    def normal(self, shape: object, dtype: object = None, device: object = None) -> Tensor:
        return torch.tensor([[1.0], [0.0]], dtype=F64)


@all_schedules
def test_a_step_forward_is_what_is_missing(schedule: Schedule) -> None:
    """From s on to t: alpha_t / alpha_s of x_s, and just the noise that then makes x_t's, whatever the two times are."""
    process = Gaussian(schedule)
    for t, s in ((scalar(t), scalar(s)) for t, s in PAIRS):
        alpha_t, sigma_t, alpha_s, sigma_s = (f(u) for u in (t, s) for f in (schedule.alpha, schedule.sigma))
        x_t = process.renoise(torch.tensor([[0.0], [1.0]], dtype=F64), s, t, FirstRow())  # type: ignore[arg-type]
        added, kept = x_t[0, 0], x_t[1, 0]
        torch.testing.assert_close(kept, alpha_t / alpha_s, rtol=1e-12, atol=0)
        torch.testing.assert_close(added**2 + (kept * sigma_s) ** 2, sigma_t**2, rtol=1e-10, atol=0)


@all_schedules
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_is_bayes_integral(schedule: Schedule, t: float, s: float) -> None:
    """The moments of q(x_t | x_s) q(x_s | x0) over x_s, renormalised by its integral, which is q(x_t | x0)."""
    process, (t_, s_) = Gaussian(schedule), (scalar(t), scalar(s))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = ((schedule.alpha(u), schedule.sigma(u)) for u in (t_, s_))
    kept, x0 = alpha_t / alpha_s, scalar(0.8)
    x_t = process.mix(x0, scalar(-1.1), t_)
    mean, variance = process.posterior_mean(x_t, x0, t_, s_), process.posterior_variance(t_, s_)
    middle, width = float(alpha_s * x0), 12 * float(sigma_s)

    def joint(x_s: Tensor) -> Tensor:
        one_step = log_normal(x_t, kept * x_s, sigma_t**2 - (kept * sigma_s) ** 2)
        return (one_step + log_normal(x_s, alpha_s * x0, sigma_s**2)).exp()

    def integral(f: object) -> Tensor:
        return gauss(lambda x: joint(x) * f(x), middle - width, middle + width, 600)  # type: ignore[operator]

    evidence = integral(torch.ones_like)
    torch.testing.assert_close(evidence.log(), log_normal(x_t, alpha_t * x0, sigma_t**2), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(integral(lambda x: x) / evidence, mean, rtol=1e-7, atol=1e-7 * width)
    torch.testing.assert_close(integral(lambda x: (x - mean) ** 2) / evidence, variance, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 0.2), (-1.5, 2.5)])
def test_divergence_of_two_gaussians(mean: float, variance: float) -> None:
    """The closed form is ∫ p log(p / q), both ways round."""
    p, q = normal(mean, variance), normal(0.3, 0.8)
    for one, other in ((p, q), (q, p)):
        log_p, log_q = (lambda x, law=law: log_prob(law, x) for law in (one, other))
        integral = gauss(lambda x, a=log_p, b=log_q: a(x).exp() * (a(x) - b(x)), -18, 18)
        closed = divergence(*(part.reshape(()) for law in (one, other) for part in (law.means, law.variances)))
        torch.testing.assert_close(integral, closed, rtol=1e-10, atol=1e-12)


def test_ddpm_s_weight_on_eps() -> None:
    """L_{t−1} = beta² / (2 beta-tilde (1 − beta) (1 − alpha-bar)) ‖eps − eps_θ‖², from the library's posterior."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    process, i = Gaussian(LinearBeta()), torch.arange(2, 1001)
    beta, bar = betas[i - 1], (1 - betas).cumprod(0)[i - 1]
    t, s = i.double() / 1000, (i.double() - 1) / 1000
    x0, eps, believed = (torch.full_like(t, value) for value in (0.4, -0.9, 0.3))
    x_t = process.mix(x0, eps, t)
    believed_x0 = (x_t - (1 - bar).sqrt() * believed) / bar.sqrt()
    gap = process.posterior_mean(x_t, x0, t, s) - process.posterior_mean(x_t, believed_x0, t, s)
    variance = process.posterior_variance(t, s)
    ours = gap**2 / (2 * variance)
    torch.testing.assert_close(ours, beta**2 / (2 * variance * (1 - beta) * (1 - bar)) * 1.2**2, rtol=1e-8, atol=0)


@smooth_schedules
def test_steps_times_their_divergence_is_the_weight_vlb(schedule: Schedule) -> None:
    """T · L_{t−1} / ‖eps − eps_θ‖² → half the rate of logsnr, with an error that halves when T doubles."""
    process, t = Gaussian(schedule), torch.linspace(0.1, 0.9, 17, dtype=F64)
    on_eps = VLB()(schedule.logsnr(t), schedule.rate(t)) / schedule.logsnr(t).exp()
    x_t, zero = torch.zeros_like(t), torch.zeros_like(t)

    def error(steps: int) -> Tensor:
        s = t - 1 / steps
        x0_gap = schedule.sigma(t) / schedule.alpha(t)
        gap = process.posterior_mean(x_t, zero + x0_gap, t, s) - process.posterior_mean(x_t, zero, t, s)
        return steps * gap**2 / (2 * process.posterior_variance(t, s)) / on_eps - 1

    coarse, fine = error(1000), error(2000)
    assert coarse.abs().max() < 0.02
    torch.testing.assert_close(coarse / fine, torch.full_like(t, 2.0), rtol=0.02, atol=0)


class Wide(OneGaussian):
    """The exact denoiser of N(0, variance), which also says how wide its belief is."""

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        spread = self.variance * self.process.schedule.sigma(t) ** 2 / self.noisy_variance(t)
        return Point(super().__call__(x_t, t).x0, spread.to(x_t).expand_as(x_t))


def variance_of_walk(denoiser: OneGaussian, times: Tensor, **options: float) -> Tensor:
    """The variance after ancestral sampling from the exact law at the first time: its coefficients, read off by impulses."""
    steps = len(times) - 1 if options.get("temperature", 1.0) else 0
    rows = torch.zeros(steps + 1, 1, dtype=F64)
    rows[-1] = 1
    response = last(ancestral(denoiser, rows, times, rng=Impulses(len(rows)), **options)).squeeze(1)  # type: ignore[arg-type]
    return response[:-1].square().sum() + response[-1] ** 2 * denoiser.noisy_variance(times[0])


@all_schedules
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("to", [1e-3, 0.3])
def test_noise_restores_the_variance_that_the_mean_loses(schedule: Schedule, n: int, to: float) -> None:
    """On one-Gaussian data a draw from p(x_s | x_t) keeps the law exactly, in any number of steps; a walk over means alone
    leaves (alpha_1 / alpha_s)² Var(x_s)² / Var(x_1). (The step to t = 0 is no draw: it ends in the mean.)"""
    denoiser = Wide(schedule, 0.25)
    times = torch.lerp(scalar(1.0), scalar(to), torch.arange(n + 1, dtype=F64) / n)
    exact, kept = denoiser.noisy_variance(times[-1]), schedule.alpha(times[0]) / schedule.alpha(times[-1])
    torch.testing.assert_close(variance_of_walk(denoiser, times), exact, rtol=1e-9, atol=0)
    means_alone = variance_of_walk(denoiser, times, temperature=0.0)
    torch.testing.assert_close(
        means_alone, kept**2 * exact**2 / denoiser.noisy_variance(times[0]), rtol=1e-8, atol=1e-20
    )


@all_schedules
def test_a_belief_without_width_loses_variance_at_every_step(schedule: Schedule) -> None:
    """With beta-tilde alone the result is too narrow, the less so the more steps; the means alone would lose far more."""
    found = [variance_of_walk(OneGaussian(schedule, 0.25), uniform(n, schedule)) / 0.25 for n in (2, 5, 10, 20)]
    assert found == sorted(found)
    assert 0 < found[0] < found[-1] < 1


@all_schedules
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_reverse_has_the_moments_of_the_true_reverse_process(schedule: Schedule, t: float, s: float) -> None:
    """p(x_s | x_t) of mixture data, ∝ q(x_s) q(x_t | x_s), by quadrature: with Var[x0 | x_t] the library's has its mean and
    variance, the law of total variance."""
    data, process, (t_, s_) = on_a_line(), Gaussian(schedule), (scalar(t), scalar(s))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = ((schedule.alpha(u), schedule.sigma(u)) for u in (t_, s_))
    kept = alpha_t / alpha_s
    denoiser, x_t = MixtureDenoiser(data, process), process.mix(scalar(0.1), scalar(0.4), t_).reshape(1, 1)
    mean, variance = process.reverse(x_t, Point(denoiser(x_t, t_).x0, width(denoiser, x_t, t_)), t_, s_)
    noisy, far = data.noisy(alpha_s, sigma_s), float(6 * alpha_s + 8 * sigma_s)
    joint = lambda x: (log_prob(noisy, x) + log_normal(x_t[0], kept * x, sigma_t**2 - (kept * sigma_s) ** 2)).exp()  # noqa: E731
    evidence = gauss(joint, -far, far, 2000)
    true_mean = gauss(lambda x: joint(x) * x, -far, far, 2000) / evidence
    true_variance = gauss(lambda x: joint(x) * (x - true_mean) ** 2, -far, far, 2000) / evidence
    torch.testing.assert_close(mean[0, 0], true_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance[0, 0], true_variance, rtol=1e-6, atol=0)
    assert variance[0, 0] > process.posterior_variance(t_, s_)


def width(denoiser: MixtureDenoiser, x_t: Tensor, t: Tensor) -> Tensor:
    """Var[x0 | x_t] = (sigma² / alpha) d E[x0 | x_t] / d x_t, by automatic differentiation."""
    schedule, x = denoiser.process.schedule, x_t.clone().requires_grad_()
    slope = torch.autograd.grad(denoiser(x, t).x0.sum(), x)[0]
    return slope * schedule.sigma(t) ** 2 / schedule.alpha(t)


@all_schedules
@pytest.mark.parametrize("t", [0.05, 0.4, 0.8])
def test_the_belief_s_width_is_its_slope(schedule: Schedule, t: float) -> None:
    """Var[x0 | x_t] by quadrature over the posterior is (sigma² / alpha) times the derivative of E[x0 | x_t]."""
    data, process, time = on_a_line(), Gaussian(schedule), scalar(t)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    for x0, eps in ((0.4, 0.2), (-1.0, -0.6), (1.4, 1.0)):
        x_t = process.mix(scalar(x0), scalar(eps), time)
        joint = lambda x, x_t=x_t: (log_prob(data, x) + log_normal(x_t, alpha * x, sigma**2)).exp()  # noqa: E731
        evidence, mean = gauss(joint, -6, 6, 4000), MixtureDenoiser(data, process)(x_t.reshape(1, 1), time).x0[0, 0]
        variance = gauss(lambda x, q=joint, m=mean: q(x) * (x - m) ** 2, -6, 6, 4000) / evidence
        ours = width(MixtureDenoiser(data, process), x_t.reshape(1, 1), time)[0, 0]
        torch.testing.assert_close(ours, variance, rtol=1e-6, atol=1e-12)


def test_widths_of_ddpm_are_two_beliefs() -> None:
    """A belief of no width gives beta-tilde, one as wide as unit data allows gives beta (Ho et al., 2020, section 3.2)."""
    betas, schedule = torch.linspace(1e-4, 0.02, 1000, dtype=F64), LinearBeta()
    process, t = Gaussian(schedule), grid("uniform", 1000, schedule)
    x, (t, s) = torch.zeros(1000, dtype=F64), (t[:-1], t[1:])
    unit = Point(x, schedule.sigma(t) ** 2 / (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2))
    torch.testing.assert_close(process.reverse(x, unit, t, s)[1], betas.flip(0), rtol=1e-8, atol=0)
    torch.testing.assert_close(
        process.reverse(x, Point(x), t, s)[1], process.posterior_variance(t, s), rtol=0, atol=0
    )


@smooth_schedules
def test_the_bound_asks_for_the_true_width(schedule: Schedule) -> None:
    """E KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) over exact Gaussian data is least at the true Var[x0 | x_t]."""
    process, data, (t, s) = Gaussian(schedule), Wide(schedule, 0.4), (scalar(0.6), scalar(0.4))
    spread = data.variance * schedule.sigma(t) ** 2 / data.noisy_variance(t)
    posterior = process.posterior_variance(t, s)

    def average(factor: float) -> Tensor:
        """x0 = belief + √spread z: the mean of the squared gap is pull² spread."""
        zero = torch.zeros((), dtype=F64)
        model = process.reverse(zero, Point(zero, factor * spread), t, s)[1]
        return divergence((process.pull(t, s) ** 2 * spread).sqrt(), posterior, zero, model)

    assert all(average(1.0) < average(factor) for factor in (0.0, 0.5, 0.99, 1.01, 2.0))
