"""Minutes become images once, and for the whole run."""

import json
import os
import signal
import types
from pathlib import Path

import pytest
from small import BATCH, images_on_disk, recipe, trained

from carrara.errors import InputError, Interrupted
from carrara.training import budget, run
from carrara.training.budget import Asked, Pace
from carrara.training.learner import Learner, Record
from carrara.training.run import Run

STEP_S = 1.0
CHANGES = ["training.checkpoint_s=3600"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still but for a second a step."""
    clock = Clock()
    fake = types.SimpleNamespace(monotonic=clock, perf_counter=clock)
    monkeypatch.setattr(budget, "time", fake)
    monkeypatch.setattr(run, "time", fake)
    step = Learner.step

    def slow(self: Learner, images: int | None) -> Record:
        clock.now += STEP_S
        return step(self, images)

    monkeypatch.setattr(Learner, "step", slow)
    return clock


def minutes(folder: Path, length: float = 0.5) -> Run:
    return Run(recipe(*CHANGES), folder, Asked(minutes=length))


def test_minutes_are_settled_after_a_twelfth_and_kept(tmp_path: Path, clock: Clock) -> None:
    begin, whole = clock.now, minutes(tmp_path)
    budgets = [progress.budget for progress in whole.train()]
    # 8 % of 30 s are over when 5 steps are done; of the 25 s left, 97 % are trained in, at 16 images a second.
    images = 5 * BATCH + round(25 * 0.97 * 16 / BATCH) * BATCH
    assert budgets == [None] * 4 + [images] * (images // BATCH - 4)
    assert 0.9 * 30 < clock.now - begin <= 30
    assert json.loads((tmp_path / "run.json").read_text())["budget_images"] == images
    assert whole.learner.images == images


def test_a_run_that_goes_on_keeps_its_budget_and_the_time_spent(tmp_path: Path, clock: Clock) -> None:
    first = minutes(tmp_path)
    progress = first.train()
    while first.budget is None:
        next(progress)
    progress.close()
    assert images_on_disk(tmp_path) == 5 * BATCH, "saved as soon as it is settled"
    again = minutes(tmp_path)
    assert (again.budget, again.seconds) == (first.budget, 5.0)
    with pytest.raises(InputError, match=r"was begun with --minutes 0\.5; the same goes on with it"):
        minutes(tmp_path, 1)
    with pytest.raises(InputError, match=r"was begun with --minutes 0\.5"):
        Run(recipe(*CHANGES), tmp_path, Asked(images=64))


def test_a_signal_before_the_rate_is_known_settles_at_once(tmp_path: Path, clock: Clock) -> None:
    first = minutes(tmp_path)
    with pytest.raises(Interrupted):
        for progress in first.train():
            if progress.record.images == BATCH:
                os.kill(os.getpid(), signal.SIGINT)
    assert first.budget == 2 * BATCH + round(28 * 0.97 * 16 / BATCH) * BATCH
    assert minutes(tmp_path).budget == first.budget


def test_a_run_killed_before_its_budget_is_settled_begins_again(tmp_path: Path, clock: Clock) -> None:
    progress = minutes(tmp_path).train()
    next(progress)
    progress.close()
    again = minutes(tmp_path)
    assert (again.budget, again.learner.images) == (None, 0)
    list(again.train())
    assert again.finished


def test_minutes_that_are_over_give_one_more_batch(tmp_path: Path, clock: Clock) -> None:
    short = minutes(tmp_path, 0.01)
    list(short.train())
    assert short.budget == 6 * BATCH


def test_without_a_fake_clock_the_minutes_are_kept(tmp_path: Path) -> None:
    done = Run(recipe(*CHANGES), tmp_path, Asked(minutes=0.03))
    list(done.train())
    assert done.finished and done.seconds < 1.5 * 0.03 * 60 + 1


def test_images_are_rounded_up_to_whole_batches() -> None:
    assert [Asked(images=n).budget(16) for n in (1, 16, 17, 32)] == [16, 16, 32, 32]
    assert Asked(minutes=3).budget(16) is None


@pytest.mark.parametrize("given", [{}, {"minutes": 1.0, "images": 1}])
def test_one_length_is_to_be_given(given: dict[str, float]) -> None:
    with pytest.raises(InputError, match="give either --minutes or --images"):
        Asked(**given)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_lengths_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=f"a run of {value} minutes is not possible"):
        Asked(minutes=value)
    with pytest.raises(InputError, match=f"a run of {value} images is not possible"):
        Asked(images=value)


def test_the_pace_is_the_median_of_the_latest_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(budget, "time", types.SimpleNamespace(monotonic=clock))
    pace = Pace(batch=10, memory=5)
    assert pace.rate == 0
    for step in (9, 1, 1, 50, 2, 2, 2):
        clock.now += step
        pace.tick()
    assert pace.rate == 10 / 2
    clock.now += 1000
    pace.skip()
    for _ in range(3):
        clock.now += 4
        pace.tick()
    assert pace.rate == 10 / 4


def test_a_run_of_images_needs_no_clock(tmp_path: Path, clock: Clock) -> None:
    assert trained(tmp_path, images=48, changes=CHANGES).seconds == 3 * STEP_S
