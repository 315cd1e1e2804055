"""Every grid, under every schedule, for every number of steps from 1 to 1000, falls strictly from 1 to 0."""

import pytest
from toys import F64, OF_NUMBERS, SCHEDULE_CASES, judge, last

from carrara.errors import InputError
from carrara.rng import Streams
from carrara.schedules import LinearBeta, Schedule
from carrara.times import GRIDS, grid

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


@all_schedules
@pytest.mark.parametrize("kind", GRIDS)
def test_grid_falls_strictly_from_one_to_zero(schedule: Schedule, kind: str) -> None:
    for n in range(1, (schedule.steps or 1000) + 1):
        times = grid(kind, n, schedule)
        assert times.dtype == F64
        assert times.shape == (n + 1,)
        assert times[0].item() == 1
        assert times[-1].item() == 0
        assert bool((times.diff() < 0).all())


@all_schedules
@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("n", [0, -1, -1000])
def test_no_steps_are_refused(schedule: Schedule, kind: str, n: int) -> None:
    with pytest.raises(InputError, match=f"^{n} sampling steps.*at least 1"):
        grid(kind, n, schedule)


@pytest.mark.parametrize("kind", GRIDS)
def test_more_steps_than_the_table_has_are_refused(kind: str) -> None:
    assert len(grid(kind, 20, LinearBeta(20, 0.005, 0.4))) == 21
    with pytest.raises(InputError, match=r"21 sampling steps.*LinearBeta has only 20.*ask for 20 or fewer"):
        grid(kind, 21, LinearBeta(20, 0.005, 0.4))


@pytest.mark.parametrize("steps", [20, 1000])
def test_trailing_stands_on_knots(steps: int) -> None:
    schedule = LinearBeta(steps, 1e-4, 0.02)
    for n in range(1, steps + 1):
        knots = grid("trailing", n, schedule) * steps
        assert float((knots - knots.round()).abs().max()) < 1e-9
        assert float((knots - grid("uniform", n, schedule) * steps).abs().max()) <= 0.5 + 1e-9


@pytest.mark.parametrize("kind", GRIDS)
@all_schedules
def test_every_sampler_walks_every_grid(schedule: Schedule, kind: str) -> None:
    """Few steps, where trouble starts: nothing but finite numbers, and ten steps end near the data, which lies within 2."""
    denoiser = judge(schedule)
    for n in (1, 2, 3, 10):
        for sampler in OF_NUMBERS.values():
            rng = Streams(range(4))
            x = last(sampler.walk(denoiser, denoiser.process.prior((2,), rng), grid(kind, n, schedule), rng=rng))
            assert bool(x.isfinite().all())
            assert float(x.abs().max()) < 4 or n < 10
