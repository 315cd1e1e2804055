"""The Gaussian process's three verbs. How steps compose is kept by laws/test_marginals.py."""

import math

import pytest
import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.errors import InputError
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import EDM, SCHEDULES, Cosine, Flow, LinearBeta, Schedule

F64 = torch.float64
ALL = {name: make() for name, make in SCHEDULES.items()} | {
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True)
}
each_schedule = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL)
SEEDS = range(40, 45)


def pictures(dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.linspace(-1, 1, 5 * 3 * 4, dtype=dtype).reshape(5, 3, 4)


@each_schedule
def test_corrupt_is_the_mixture_of_data_and_the_noise_it_returns(schedule: Schedule) -> None:
    t = torch.tensor([1e-4, 0.2, 0.5, 0.9, 1.0], dtype=F64)
    x_t, eps = Gaussian(schedule).corrupt(pictures(), t, Streams(SEEDS))
    assert torch.equal(eps, Streams(SEEDS).normal((3, 4), F64))
    for i in range(5):
        expected = schedule.alpha(t[i]) * pictures()[i] + schedule.sigma(t[i]) * eps[i]
        torch.testing.assert_close(x_t[i], expected, rtol=1e-12, atol=1e-12)


@each_schedule
def test_one_time_for_all_is_that_time_for_each(schedule: Schedule) -> None:
    process, t, s = Gaussian(schedule), torch.tensor(0.6, dtype=F64), torch.tensor(0.35, dtype=F64)
    x = pictures()
    one = process.step(x, Point(x / 2), t, s, Streams(SEEDS))
    each = process.step(x, Point(x / 2), t.expand(5), s.expand(5), Streams(SEEDS))
    assert torch.equal(one, each)
    assert torch.equal(process.corrupt(x, t, Streams(SEEDS))[0], process.corrupt(x, t.expand(5), Streams(SEEDS))[0])


@each_schedule
def test_a_step_leads_to_noise_of_the_right_size(schedule: Schedule) -> None:
    """With the true x0 as belief, x_s − alpha_s x0 has variance sigma_s²: z-score over 30,000 numbers."""
    process, t, s = Gaussian(schedule), torch.tensor(0.7, dtype=F64), torch.tensor(0.4, dtype=F64)
    x0, rng = torch.full((20, 1500), 0.3, dtype=F64), Streams(range(20))
    x_t = process.corrupt(x0, t, rng)[0]
    for eta in (0.0, 0.5, 1.0):
        noise = (process.step(x_t, Point(x0), t, s, rng, eta) - schedule.alpha(s) * x0) / schedule.sigma(s)
        assert abs(noise.mean()) * math.sqrt(noise.numel()) < 4.5
        assert abs(noise.square().mean() - 1) * math.sqrt(noise.numel() / 2) < 4.5


@each_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_step_to_zero_ends_in_the_belief(schedule: Schedule, eta: float) -> None:
    process, belief = Gaussian(schedule), pictures(torch.float32)
    x_t = Streams(SEEDS).normal((3, 4))
    for t in (1.0, 0.5, 1e-5):
        args = torch.tensor(t, dtype=F64), torch.zeros((), dtype=F64), Streams(SEEDS), eta
        assert torch.equal(process.step(x_t, Point(belief), *args), belief)


@each_schedule
def test_eps_is_the_noise(schedule: Schedule) -> None:
    process, t = Gaussian(schedule), torch.tensor([1e-4, 0.2, 0.5, 0.9, 1.0], dtype=F64)
    x_t, eps = process.corrupt(pictures(), t, Streams(SEEDS))
    torch.testing.assert_close(process.eps(x_t, pictures(), t), eps, rtol=1e-9, atol=1e-9)


@each_schedule
def test_prior_is_the_noisy_law_of_unit_data(schedule: Schedule) -> None:
    one = torch.ones((), dtype=F64)
    x, noise = Gaussian(schedule).prior((3, 4), Streams(SEEDS)), Streams(SEEDS).normal((3, 4))
    assert x.shape == (5, 3, 4)
    assert x.dtype == torch.float32
    std = math.sqrt(schedule.alpha(one) ** 2 + schedule.sigma(one) ** 2)
    torch.testing.assert_close(x, std * noise)
    assert isinstance(schedule, EDM) or std == pytest.approx(1)


def straight(schedule: Schedule, times: Tensor) -> tuple[Tensor, Tensor]:
    """(c, clock) at each of the times."""
    pairs = [Gaussian(schedule).straight(level) for level in schedule.levels(times)]
    return tuple(torch.tensor(column, dtype=F64) for column in zip(*pairs, strict=True))


@each_schedule
def test_straight_coordinates_are_straight(schedule: Schedule) -> None:
    """x_t / c lies on a line against the clock while x0 and eps are held, and the clock falls strictly with t."""
    t = torch.linspace(0, 1, 101, dtype=F64)
    c, clock = straight(schedule, t)
    assert bool((clock.diff() > 0).all())
    assert bool(c.isfinite().all() and (c > 0).all() and clock.isfinite().all())
    y = (schedule.alpha(t) * 0.8 - schedule.sigma(t) * 1.7) / c
    line = y[0] + (y[-1] - y[0]) * (clock - clock[0]) / (clock[-1] - clock[0])
    torch.testing.assert_close(y, line, rtol=1e-10, atol=1e-10)


def test_straight_coordinates_are_the_papers() -> None:
    t = torch.linspace(0, 1, 11, dtype=F64)
    for schedule, c, clock in ((Flow(), torch.ones_like(t), t), (EDM(9.0), torch.ones_like(t), 9 * t)):
        ours = straight(schedule, t)
        torch.testing.assert_close(ours[0], c, rtol=1e-14, atol=0)
        torch.testing.assert_close(ours[1], clock, rtol=1e-14, atol=0)


def test_new_noise_needs_streams() -> None:
    process, x = Gaussian(Cosine()), pictures()
    t, s = torch.tensor(0.5, dtype=F64), torch.tensor(0.2, dtype=F64)
    process.step(x, Point(x), t, s, None, eta=0.0)
    with pytest.raises(InputError, match=r"eta = 0.3 adds noise.*pass rng, or eta = 0"):
        process.step(x, Point(x), t, s, None, eta=0.3)


@pytest.mark.parametrize("eta", [-0.1, 1.01, float("nan")])
def test_more_noise_than_the_posterior_s_is_refused(eta: float) -> None:
    """Beyond 1 no step keeps the marginals."""
    t, s = torch.tensor(0.5, dtype=F64), torch.tensor(0.2, dtype=F64)
    with pytest.raises(InputError, match=rf"eta is {eta}; it must lie in \[0, 1\]"):
        Gaussian(Cosine()).step(pictures(), Point(pictures()), t, s, Streams(SEEDS), eta)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, F64])
def test_the_samples_dtype_is_kept(dtype: torch.dtype) -> None:
    process, x = Gaussian(Cosine()), pictures(dtype)
    t, s = torch.tensor(0.5, dtype=F64), torch.tensor(0.2, dtype=F64)
    x_t, eps = process.corrupt(x, t, Streams(SEEDS))
    assert x_t.dtype == eps.dtype == process.step(x_t, Point(x), t, s, Streams(SEEDS)).dtype == dtype


def test_like_lines_a_coefficient_up_with_the_batch() -> None:
    x = torch.ones(5, 3, 4)
    assert like(torch.tensor(2.0, dtype=F64), x).shape == ()
    assert like(torch.arange(5, dtype=F64), x).shape == (5, 1, 1)
    assert like(torch.arange(5, dtype=F64), x).dtype == torch.float32


@each_schedule
def test_level_is_the_schedules(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 11, dtype=F64)
    assert torch.equal(Gaussian(schedule).level(t), schedule.level(t))


def test_a_belief_s_variance_widens_every_step_but_the_last() -> None:
    """(d mean / d x0)² times it, by the law of total variance; at t = 0 the mean itself is the answer, as in DDPM."""
    process, t = Gaussian(Flow()), torch.tensor(0.5, dtype=torch.float64)
    x = torch.zeros(4000, 3, dtype=torch.float64)
    belief = Point(torch.zeros_like(x), torch.full_like(x, 0.4))
    for s in (torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)):
        drawn = process.step(x, belief, t, s, Streams(range(4000)))
        variance = process.posterior_variance(t, s) + 0.4 * process.pull(t, s) ** 2
        if s > 0:
            assert abs(float(drawn.var() / variance) - 1) < 4 * (2 / drawn.numel()) ** 0.5
            assert float(variance) > 1.5 * float(process.posterior_variance(t, s))
        else:
            assert torch.equal(drawn, belief.x0)
