"""docs/mathematics.md, solvers and guidance: the exact forms of the ODE, multistep as one formula, the tilted density."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from quadrature import gauss, log_prob, normal, on_a_line, rate_of
from torch import Tensor
from toys import F64, SMOOTH, between, scalar

from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.beliefs import Point
from carrara.guidance import Guided
from carrara.predictions import V, Velocity
from carrara.processes import Gaussian
from carrara.samplers import SAMPLERS, dpmpp_2m
from carrara.samplers.multistep import multistep
from carrara.schedules import Level, Schedule

smooth_schedules = pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)

# ------------------------------------------------------------------------------------------- the ODE's exact forms


def ratio(schedule: Schedule, t: Tensor) -> Tensor:
    """sigma / alpha."""
    return (-schedule.logsnr(t) / 2).exp()


def at(schedule: Schedule, t: Tensor) -> Level:
    """The levels at all times at once: tensors in the place of numbers, so that they can be differentiated."""
    return Level(schedule.alpha(t), schedule.sigma(t))  # type: ignore[arg-type]


@smooth_schedules
def test_the_ode_is_an_integral_of_the_belief(schedule: Schedule) -> None:
    """With u = alpha′x0 + sigma′eps: d(x/sigma) = x0 d(alpha/sigma), d(x/alpha) = eps d(sigma/alpha), d(x/r) = v/r dangle for
    r² = alpha² + sigma², and d(x/c) = slope dclock, whatever x and the belief are."""
    process, t = Gaussian(schedule), torch.linspace(0.05, 0.95, 19, dtype=F64)
    x, x0 = torch.sin(9 * t), torch.cos(5 * t)
    eps, (a, b) = process.eps(x, x0, t), Velocity().row(schedule, t)
    u, v = a * x0 + b * eps, V().row(schedule, t).a * x0 + V().row(schedule, t).b * eps
    forms = {
        "x0": (schedule.sigma, x0, lambda t: 1 / ratio(schedule, t)),
        "eps": (schedule.alpha, eps, lambda t: ratio(schedule, t)),
        "v": (
            lambda t: torch.hypot(schedule.alpha(t), schedule.sigma(t)),
            None,
            lambda t: schedule.level(t) * math.pi / 2,
        ),
        "slope": (
            lambda t: process.straight(at(schedule, t))[0],
            process.slope(x, Point(x0), at(schedule, t)),
            lambda t: process.straight(at(schedule, t))[1],
        ),
    }
    for c, held, clock in forms.values():
        size = c(t)
        held = v / size if held is None else held
        # d(x/c)/dt with x moving at u.
        moved = (u * size - x * rate_of(lambda t, c=c: c(t) + 0 * t, t)) / size**2
        torch.testing.assert_close(moved, held * rate_of(clock, t), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------------------------------------- multistep samplers

CLOCKS: dict[str, Callable[[Schedule, Tensor], Tensor]] = {
    "logsnr": lambda schedule, t: schedule.logsnr(t) / 2,
    "ratio": ratio,
    "angle": lambda schedule, t: schedule.level(t) * math.pi / 2,
}
EXACT = [
    ("ddim", "x0", "logsnr", 1),
    ("ddim", "eps", "ratio", 1),
    ("dpmpp_3m", "x0", "logsnr", 3),
    ("lms", "eps", "ratio", 4),
    ("deis", "eps", "logsnr", 3),
    ("unipc", "x0", "logsnr", 3),
    ("adams, predictor", "eps", "angle", 4),
]
"""(sampler, what it makes a polynomial of, in which clock, through how many values)."""

WALKS = {name: sampler.walk for name, sampler in SAMPLERS.items()}
# Its corrector changes x and with it the eps that was believed at x, so that its first steps are never quite forgotten.
WALKS["adams, predictor"] = partial(multistep, quantity="eps", clock="angle", corrector=0)
WARM = 8
"""Steps after which every sampler has all the values it remembers, and none of a lower order."""


class Polynomial:
    """A belief whose x0, or whose eps, is a polynomial of this degree in the clock, whatever x is."""

    def __init__(self, schedule: Schedule, quantity: str, clock: str, degree: int) -> None:
        self.process, self.quantity, self.clock = Gaussian(schedule), quantity, CLOCKS[clock]
        self.coefficients = [0.7, -0.9, 0.6, 0.4, -0.5][: degree + 1]

    def value(self, t: Tensor) -> Tensor:
        at = self.clock(self.process.schedule, t)
        return sum(c * at**k for k, c in enumerate(self.coefficients)) + 0 * t

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        schedule, value = self.process.schedule, self.value(t).expand_as(x_t)
        return Point(value if self.quantity == "x0" else (x_t - schedule.sigma(t) * value) / schedule.alpha(t))

    def exact(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s = c_s (x_t / c_t + ∫ value dclock) with c, clock = sigma, alpha/sigma for x0 and alpha, sigma/alpha for eps."""
        schedule = self.process.schedule
        c, sign = (schedule.sigma, 1) if self.quantity == "x0" else (schedule.alpha, -1)

        def integrand(lam: Tensor) -> Tensor:
            return self.value(schedule.inverse(2 * lam)) * sign * (sign * lam).exp()

        low, high = (float(schedule.logsnr(u)) / 2 for u in (t, s))
        return c(s) * (x_t / c(t) + gauss(integrand, low, high, 20))


def warm_error(name: str, belief: Polynomial, **options: int) -> float:
    """The largest error of a warm step, from where the step before had ended."""
    times = between(belief.process.schedule, 14, uneven=True)
    steps = WALKS[name](belief, torch.tensor([[0.3], [-1.0]], dtype=F64), times, rng=None, **options)
    ends = [(step.x, step.s) for step in steps]
    return max(float((belief.exact(x, t, s) - x_s).abs().max()) for (x, t), (x_s, s) in pairwise(ends[WARM:]))


@smooth_schedules
@pytest.mark.parametrize(("name", "quantity", "clock", "values"), EXACT)
def test_a_polynomial_belief_is_integrated_exactly(
    schedule: Schedule, name: str, quantity: str, clock: str, values: int
) -> None:
    """A polynomial through k values has degree k − 1: up to that, in the sampler's own clock, and not one degree beyond."""
    options = {"order": values} if "order" in inspect.signature(WALKS[name]).parameters else {}
    assert warm_error(name, Polynomial(schedule, quantity, clock, values - 1), **options) < 1e-10
    assert warm_error(name, Polynomial(schedule, quantity, clock, values), **options) > 1e-6


@smooth_schedules
def test_dpmpp_2m_takes_the_line_s_value_at_the_middle(schedule: Schedule) -> None:
    """Where x0 is a line in λ its step misses the exact integral by h³: order 2, but not exact."""
    belief, (high, low) = Polynomial(schedule, "x0", "logsnr", 1), (-0.5, 0.5)

    def error(n: int) -> float:
        lam = torch.linspace(high, low, n + 1, dtype=F64)
        ends = [(step.x, step.s) for step in dpmpp_2m(belief, torch.ones(1, 1, dtype=F64), schedule.inverse(2 * lam))]
        (x, t), (x_s, s) = ends[-2:]
        return float((belief.exact(x, t, s) - x_s).abs())

    coarse, fine = error(40), error(80)
    assert 0 < fine < coarse
    assert coarse / fine == pytest.approx(8, rel=0.1)


# --------------------------------------------------------------------------------------------------------- guidance


class Halves:
    """The exact denoiser of one of two laws: the first where the label is 1, the second (the null) where it is 0."""

    def __init__(self, schedule: Schedule, strong: GaussianMixture, weak: GaussianMixture) -> None:
        self.process = Gaussian(schedule)
        self.strong, self.weak = MixtureDenoiser(strong, self.process), MixtureDenoiser(weak, self.process)

    def __call__(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Point:
        chosen = cond["label"][:, None] == 1
        return Point(torch.where(chosen, self.strong(x_t, t).x0, self.weak(x_t, t).x0))


@smooth_schedules
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guidance_is_the_score_of_a_tilted_density(schedule: Schedule, scale: float) -> None:
    """With one of a mixture's Gaussians as the class: score of p(x) p(c | x)^scale, the classifier being Bayes' own."""
    data, t = on_a_line(), scalar(0.5)
    one = GaussianMixture(data.means[1:2], data.variances[1:2], torch.ones(1, dtype=F64))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x = (alpha * torch.linspace(-1.5, 1.8, 9, dtype=F64)[:, None]).requires_grad_()
    noisy = data.noisy(alpha, sigma)
    classifier = noisy.joint_log_prob(x).log_softmax(-1)[:, 1]
    score = torch.autograd.grad((noisy.log_prob(x) + scale * classifier).sum(), x)[0]
    x = x.detach()
    label, null = {"label": torch.ones(9)}, {"label": torch.zeros(9)}
    guided = Guided(Halves(schedule, one, data), scale, null)(x, t, label)
    torch.testing.assert_close(-Gaussian(schedule).eps(x, guided.x0, t) / sigma, score, rtol=1e-8, atol=1e-8)


@smooth_schedules
@pytest.mark.parametrize("wide", [0.2, 0.7])
def test_the_tilted_density_of_two_gaussians(schedule: Schedule, wide: float) -> None:
    """p^scale q^{1 − scale} of two noisy Gaussians, normalised by quadrature, is the Gaussian whose score guidance follows; it
    is the noisy law of the tilted data where both are equally wide, and only there."""
    strong, weak, scale, t = normal(0.8, 0.2), normal(-0.3, wide), 1.6, scalar(0.4)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)

    def moments(p: GaussianMixture, q: GaussianMixture) -> tuple[Tensor, Tensor]:
        tilted = lambda x: (scale * log_prob(p, x) + (1 - scale) * log_prob(q, x)).exp()  # noqa: E731
        far = 40 * float((p.variances + q.variances).sqrt())
        whole = gauss(tilted, -far, far, 4000)
        mean = gauss(lambda x: x * tilted(x), -far, far, 4000) / whole
        return mean, gauss(lambda x: (x - mean) ** 2 * tilted(x), -far, far, 4000) / whole

    mean, variance = moments(strong.noisy(alpha, sigma), weak.noisy(alpha, sigma))
    x = torch.linspace(-1, 1, 5, dtype=F64)[:, None]
    label, null = {"label": torch.ones(5)}, {"label": torch.zeros(5)}
    belief = Guided(Halves(schedule, strong, weak), scale, null)(x, t, label)
    score = -Gaussian(schedule).eps(x, belief.x0, t) / sigma
    torch.testing.assert_close(score, (mean - x) / variance, rtol=1e-7, atol=1e-7)

    data_mean, data_variance = moments(strong, weak)
    noised = normal(data_mean, data_variance).noisy(alpha, sigma)
    same = torch.isclose(noised.variances[0], variance, rtol=1e-7) and torch.isclose(
        noised.means[0, 0], mean, rtol=1e-7
    )
    assert bool(same) is (wide == 0.2)
