"""docs/mathematics.md, continuous time: scores, the two SDEs, the probability-flow ODE, flow matching, change of variables.

Data is a mixture on the line, whose noisy law, score and belief are exact at every time.
"""

import pytest
import torch
from quadrature import drift_and_diffusion, gauss, log_normal, log_prob, normal, on_a_line, rate_of
from torch import Tensor
from toys import F64, SCHEDULE_CASES, SMOOTH, OneGaussian, scalar

from carrara.analytic import MixtureDenoiser
from carrara.beliefs import Point
from carrara.decoders import bin_width, dequantised
from carrara.predictions import PREDICTIONS, Velocity, solve
from carrara.processes import Gaussian
from carrara.schedules import Schedule

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
smooth_schedules = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
TIMES = [0.12, 0.45, 0.83]


def places(schedule: Schedule, t: Tensor) -> Tensor:
    """A dozen x_t where the noisy law of the mixture has its mass."""
    return schedule.alpha(t) * torch.linspace(-1.9, 2.1, 12, dtype=F64) + 0.3 * schedule.sigma(t)


def log_noisy(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """log p_t(x) of the mixture."""
    return log_prob(on_a_line().noisy(schedule.alpha(t), schedule.sigma(t)), x)


def score(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """d log p_t / dx by automatic differentiation."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_noisy(schedule, x, t).sum(), x)[0]


def velocity(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """alpha′ x0 + sigma′ eps under the exact belief: the library's row and belief."""
    process = Gaussian(schedule)
    x0 = MixtureDenoiser(on_a_line(), process)(x[:, None], t).x0[:, 0]
    a, b = Velocity().row(schedule, t)
    return a * x0 + b * process.eps(x, x0, t)


def slope(f: object, at: Tensor, h: float) -> Tensor:
    """f′ by central differences of order 4."""
    near, far = f(at + h) - f(at - h), f(at + 2 * h) - f(at - 2 * h)  # type: ignore[operator]
    return (8 * near - far) / (12 * h)


@all_schedules
@pytest.mark.parametrize("t", TIMES)
def test_score_is_minus_the_believed_eps_over_sigma(schedule: Schedule, t: float) -> None:
    process, time = Gaussian(schedule), scalar(t)
    x = places(schedule, time)
    x0 = MixtureDenoiser(on_a_line(), process)(x[:, None], time).x0[:, 0]
    torch.testing.assert_close(
        -process.eps(x, x0, time) / schedule.sigma(time), score(schedule, x, time), rtol=1e-8, atol=1e-8
    )


@smooth_schedules
def test_the_sde_s_coefficients_are_the_paper_s(schedule: Schedule) -> None:
    """f = d log alpha / dt and g² = d sigma² / dt − 2 f sigma² (Kingma et al., 2021), with the library's derivatives."""
    t = torch.linspace(0.05, 0.95, 19, dtype=F64)
    f, g2 = drift_and_diffusion(schedule, t)
    torch.testing.assert_close(f, rate_of(lambda t: schedule.alpha(t).log() + 0 * t, t), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        g2, rate_of(lambda t: schedule.sigma(t) ** 2, t) - 2 * f * schedule.sigma(t) ** 2, rtol=1e-9, atol=0
    )


@smooth_schedules
@pytest.mark.parametrize("t", TIMES)
def test_the_forward_sde_moves_the_noisy_law(schedule: Schedule, t: float) -> None:
    """Fokker–Planck: dp/dt = −d(f x p)/dx + ½ g² d²p/dx², with f = alpha′/alpha and g² = sigma² (−dlogsnr/dt)."""
    time = scalar(t)
    x, (f, g2) = places(schedule, time), drift_and_diffusion(schedule, time)
    unit = float(schedule.sigma(time))
    p = lambda x, u: log_noisy(schedule, x, u).exp()  # noqa: E731
    change = slope(lambda u: p(x, u), time, 1e-4)
    moved = slope(lambda x: f * x * p(x, time), x, 1e-3 * unit)
    spread = slope(lambda x: slope(lambda x: p(x, time), x, 3e-3 * unit), x, 3e-3 * unit)
    size = float(change.abs().max())
    torch.testing.assert_close(change, -moved + g2 / 2 * spread, rtol=0, atol=1e-6 * size)


@smooth_schedules
@pytest.mark.parametrize("t", TIMES)
def test_the_velocity_moves_the_noisy_law_as_well(schedule: Schedule, t: float) -> None:
    """Continuity: dp/dt = −d(u p)/dx with u = alpha′ x0 + sigma′ eps of the belief, and u = f x − ½ g² score."""
    time = scalar(t)
    x, (f, g2) = places(schedule, time), drift_and_diffusion(schedule, time)
    p = lambda x, u: log_noisy(schedule, x, u).exp()  # noqa: E731
    change = slope(lambda u: p(x, u), time, 1e-4)
    flux = slope(lambda x: velocity(schedule, x, time) * p(x, time), x, 1e-3 * float(schedule.sigma(time)))
    torch.testing.assert_close(change, -flux, rtol=0, atol=1e-7 * float(change.abs().max()))
    expected = f * x - g2 / 2 * score(schedule, x, time)
    torch.testing.assert_close(velocity(schedule, x, time), expected, rtol=1e-8, atol=1e-8)


@smooth_schedules
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [0.3, 0.7])
def test_a_short_step_back_is_the_reverse_sde(schedule: Schedule, eta: float, t: float) -> None:
    """To first order x_s = x − (t − s) (f x − ½ (1 + eta²) g² score) + eta g √(t − s) z; what is left over halves with t − s."""
    process, time = Gaussian(schedule), scalar(t)
    x, (f, g2) = places(schedule, time), drift_and_diffusion(schedule, time)
    belief = Point(MixtureDenoiser(on_a_line(), process)(x[:, None], time).x0[:, 0])

    class Ones:
        def normal(self, shape: object, dtype: object = None, device: object = None) -> Tensor:
            return torch.ones_like(x)

    def drift(h: float) -> Tensor:
        return (x - process.step(x, belief, time, time - h, Ones(), eta=eta, temperature=0.0)) / h  # type: ignore[arg-type]

    def noise(h: float) -> Tensor:
        with_noise = process.step(x, belief, time, time - h, Ones(), eta=eta)  # type: ignore[arg-type]
        return (with_noise - x + h * drift(h)) / h**0.5

    expected = f * x - (1 + eta**2) / 2 * g2 * score(schedule, x, time)
    for found, exact in ((drift, expected), (noise, eta * g2.sqrt() * torch.ones_like(x))):
        size = float(expected.abs().max())
        coarse, fine = (float((found(h) - exact).abs().max()) for h in (2e-4, 1e-4))
        assert coarse < 5e-3 * size
        assert 0.45 * coarse - 1e-9 * size < fine < 0.55 * coarse + 1e-9 * size


@smooth_schedules
def test_every_amount_of_noise_keeps_the_variance(schedule: Schedule) -> None:
    """Back in time with (f − ½ (1 + eta²) g² / −V) x and noise eta g, one Gaussian's variance V has the forward rate V′."""
    data = OneGaussian(schedule, 0.4)
    t = torch.linspace(0.1, 0.9, 9, dtype=F64)
    (f, g2), variance = drift_and_diffusion(schedule, t), data.noisy_variance(t)
    forward = slope(data.noisy_variance, t, 1e-4)
    torch.testing.assert_close(forward, 2 * f * variance + g2, rtol=1e-8, atol=1e-8)
    for eta in (0.0, 0.5, 1.0):
        h = 1e-6
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        gain = data.process.step(one, Point(data(one, t).x0), t, t - h, None, eta=eta, temperature=0.0)
        noise = eta**2 * data.process.posterior_variance(t, t - h) + zero
        rate = (variance - gain**2 * variance - noise) / h
        torch.testing.assert_close(rate, forward, rtol=2e-4, atol=2e-4 * float(forward.abs().max()))


def given(schedule: Schedule, x_t: Tensor, t: Tensor) -> tuple[object, float]:
    """(joint density in x0 of data and this x_t, bound of the integral)."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return lambda x0: (log_prob(on_a_line(), x0) + log_normal(x_t, alpha * x0, sigma**2)).exp(), 6.0


@all_schedules
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_the_best_output_is_the_mean_of_the_target(schedule: Schedule, prediction: str, t: float) -> None:
    """E[a x0 + b eps | x_t] by quadrature over x0; read as an output it gives the belief. For `velocity`: the marginal field."""
    process, time = Gaussian(schedule), scalar(t)
    row = PREDICTIONS[prediction]().row(schedule, time)
    x = places(schedule, time)
    x0 = MixtureDenoiser(on_a_line(), process)(x[:, None], time).x0[:, 0]
    for x_t, belief in zip(x, x0, strict=True):
        density, far = given(schedule, x_t, time)
        target = lambda x0, x_t=x_t: row.a * x0 + row.b * process.eps(x_t, x0, time)  # noqa: E731
        mean = gauss(lambda x0, d=density, y=target: d(x0) * y(x0), -far, far, 3000) / gauss(density, -far, far, 3000)
        read = solve(row, mean, x_t, schedule.alpha(time), schedule.sigma(time))
        torch.testing.assert_close(read[0], belief, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(read[1], process.eps(x_t, belief, time), rtol=1e-7, atol=1e-7)


@smooth_schedules
def test_conditional_and_marginal_losses_differ_by_a_constant(schedule: Schedule) -> None:
    """E‖w − (alpha′x0 + sigma′eps)‖² − E‖w − u‖² is the same for any field w: E Var(velocity | x_t)."""
    t, (nodes, weights) = scalar(0.55), _grid()
    x0, x0_weights = nodes * 4.0, weights * 4.0 * log_prob(on_a_line(), nodes * 4.0).exp()
    eps, eps_weights = nodes * 7.0, weights * 7.0 * log_normal(nodes * 7.0, 0.0, 1.0).exp()
    x_t = Gaussian(schedule).mix(x0[:, None], eps[None, :], t)
    a, b = Velocity().row(schedule, t)
    target, field = a * x0[:, None] + b * eps, velocity(schedule, x_t.flatten(), t).reshape(x_t.shape)
    mean = lambda y: x0_weights @ y @ eps_weights  # noqa: E731
    differences = [
        mean((w - target) ** 2) - mean((w - field) ** 2)
        for w in (torch.zeros_like(x_t), torch.sin(3 * x_t), 0.4 * x_t - 1, field)
    ]
    assert differences[0] > 1e-3
    torch.testing.assert_close(torch.stack(differences), differences[-1].expand(4), rtol=1e-6, atol=0)


def _grid() -> tuple[Tensor, Tensor]:
    """400 points from −1 to 1 and the trapezoid's weights; what is integrated has faded at both ends."""
    x = torch.linspace(-1, 1, 400, dtype=F64)
    return x, torch.full_like(x, 2 / 399)


@smooth_schedules
@pytest.mark.parametrize("t", TIMES)
def test_along_the_flow_the_log_density_changes_by_the_divergence(schedule: Schedule, t: float) -> None:
    """d log p_t(x_t) / dt = ∂_t log p + u ∂_x log p = −∂_x u at every point."""
    time = scalar(t)
    x = places(schedule, time)
    u = velocity(schedule, x, time)
    total = slope(lambda v: log_noisy(schedule, x, v), time, 1e-4) + u * score(schedule, x, time)
    spread = slope(lambda x: velocity(schedule, x, time), x, 1e-3 * float(schedule.sigma(time)))
    torch.testing.assert_close(total, -spread, rtol=1e-6, atol=1e-6 * float(spread.abs().max()))


@smooth_schedules
def test_a_linear_flow_s_likelihood(schedule: Schedule) -> None:
    """One Gaussian: log p(x0) = log p_1(x_1) + ∫ div u dt, x_1 = √(V_1 / V_0) x_0, the integral being ½ log(V_1 / V_0)."""
    data, low, high = OneGaussian(schedule, 0.3), scalar(0.001), scalar(1.0)
    first, final = data.noisy_variance(low), data.noisy_variance(high)

    def spread(t: Tensor) -> Tensor:
        one = torch.ones_like(t)
        x0 = data(one, t).x0
        a, b = Velocity().row(schedule, t)
        return a * x0 + b * data.process.eps(one, x0, t)

    # In log t, so that the equal cells suit the exploding schedule as well.
    integral = gauss(lambda u: spread(u.exp()) * u.exp(), float(low.log()), float(high.log()))
    torch.testing.assert_close(integral, (final / first).log() / 2, rtol=1e-9, atol=0)
    x = torch.tensor([-1.1, 0.2, 0.7], dtype=F64)
    arrived = log_prob(normal(0.0, final), (final / first).sqrt() * x)
    torch.testing.assert_close(arrived + integral, log_prob(normal(0.0, first), x), rtol=1e-9, atol=1e-9)


class Even:
    """In place of random streams: sample i of n draws (i + ½) / n, so that a mean over the samples is an integral over u."""

    def __init__(self, n: int) -> None:
        self.n = n

    def uniform(self, shape: tuple[int, ...], device: object = "cpu") -> Tensor:
        return (
            ((torch.arange(self.n, dtype=F64) + 0.5) / self.n).reshape(-1, *[1] * len(shape)).expand(self.n, *shape)
        )


def test_uniform_dequantisation_bounds_the_discrete_likelihood() -> None:
    """E_u log p(x + u) + log width ≤ log P(bin): never above; what is lost falls with the width squared."""
    centres, n = torch.linspace(-1.9, 1.9, 8, dtype=F64), 400

    def lost(bins: int) -> Tensor:
        width = bin_width(bins)
        density = lambda u: log_prob(on_a_line(), centres[:, None] + width * u)  # noqa: E731
        mass = gauss(lambda u: density(u).exp(), -0.5, 0.5, 20) * width
        spread = dequantised(centres.expand(n, 8), bins, Even(n))  # type: ignore[arg-type]
        return mass.log() - log_prob(on_a_line(), spread).mean(0) - scalar(width).log()

    coarse, fine = lost(34), lost(67)
    assert bool((fine > 0).all())
    torch.testing.assert_close(coarse / fine, torch.full_like(fine, 4.0), rtol=0.05, atol=0)
