"""Why noise is added, on one Gaussian, where it is exact: what the posterior's mean loses, and what fresh noise forgets."""

import pytest
import torch
from toys import F64, SCHEDULE_CASES, OneGaussian, last, scalar

from carrara.beliefs import Point
from carrara.samplers import ancestral, ddim
from carrara.schedules import Schedule

VARIANCE = 0.3
all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


def squared_correlation(data: OneGaussian, t: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Of x_t and x_s under the forward process: what share of the variance of one the other explains."""
    alpha = data.process.schedule.alpha
    return alpha(t) ** 2 * data.noisy_variance(s) / (alpha(s) ** 2 * data.noisy_variance(t))


@all_schedules
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_means_leave_the_share_that_the_start_explains_however_many_steps(schedule: Schedule, steps: int) -> None:
    """The walk is linear, so its factor is read off at x = 1; every share between telescopes."""
    data = OneGaussian(schedule, VARIANCE)
    for start, end in ((0.9, 0.0), (0.7, 0.25)):
        times = torch.linspace(start, end, steps + 1, dtype=F64)
        x = last(ancestral(data, torch.ones(1, 1, dtype=F64), times, rng=None, temperature=0.0))
        t, s = times[0], times[-1]
        left = float(x) ** 2 * data.noisy_variance(t) / data.noisy_variance(s)
        torch.testing.assert_close(left, squared_correlation(data, t, s), rtol=1e-8, atol=0)


@all_schedules
def test_what_the_mean_loses_is_the_variance_of_the_draw(schedule: Schedule) -> None:
    """V_s = variance of the mean + mean of the variance, where the belief knows how sure it is."""
    data = OneGaussian(schedule, VARIANCE)
    for t, s in ((scalar(0.9), scalar(0.2)), (scalar(0.5), scalar(0.49))):
        one = torch.ones(1, 1, dtype=F64)
        unsure = (VARIANCE * schedule.sigma(t) ** 2 / data.noisy_variance(t)).expand(1, 1)
        factor, variance = data.process.reverse(one, Point(data(one, t).x0, unsure), t, s)
        total = factor**2 * data.noisy_variance(t) + variance
        torch.testing.assert_close(total, data.noisy_variance(s).expand(1, 1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ["flow", "cosine", "edm"])
def test_fresh_noise_forgets_an_error_by_the_correlation(kind: str) -> None:
    """In units of the spread, an error of x_t stays whole without new noise, and shrinks by the correlation with it."""
    schedule = SCHEDULE_CASES[kind]
    data, times = OneGaussian(schedule, VARIANCE), torch.linspace(0.8, 0.3, 3001, dtype=F64)
    t, s, one = times[0], times[-1], torch.ones(1, 1, dtype=F64)
    unit = (data.noisy_variance(s) / data.noisy_variance(t)).sqrt()
    kept = float(last(ddim(data, one, times))) / unit
    renewed = float(last(ancestral(data, one, times, rng=None, temperature=0.0))) / unit
    assert float(kept) == pytest.approx(1, abs=2e-3)
    assert float(renewed) == pytest.approx(float(squared_correlation(data, t, s).sqrt()), rel=1e-8) and renewed < 0.9
