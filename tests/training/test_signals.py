"""SIGINT and SIGTERM are heard, the step is finished and saved; a second one acts as usual."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import BATCH, differing, images_on_disk, metrics, opened, state, trained

from carrara.errors import Interrupted
from carrara.training.signals import listening

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that arrive at handlers that were there before."""
    seen: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: seen.append(number)) for number in SIGNALS}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_asked_to_stop_saves_and_can_go_on(tmp_path: Path, number: int) -> None:
    handlers = [signal.getsignal(known) for known in SIGNALS]
    run = opened(tmp_path / "run", changes=["training.checkpoint_s=3600"])
    seen = []
    with pytest.raises(Interrupted, match=rf"^Stopped after {4 * BATCH} images, and saved in .*run\.$") as caught:
        for progress in run.train():
            seen.append(progress.record.images)
            if len(seen) == 3:
                os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number
    assert seen == [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
    assert [signal.getsignal(known) for known in SIGNALS] == handlers
    assert images_on_disk(tmp_path / "run") == 4 * BATCH
    assert not (tmp_path / "run" / "model").exists()
    trained(tmp_path / "run", changes=["training.checkpoint_s=3600"])
    whole = trained(tmp_path / "whole", changes=["training.checkpoint_s=3600"])
    assert differing(state(opened(tmp_path / "run", changes=["training.checkpoint_s=3600"])), state(whole)) == []
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_a_run_stopped_in_its_last_step_is_finished(tmp_path: Path) -> None:
    for progress in opened(tmp_path, images=3 * BATCH).train():
        if progress.record.images == 2 * BATCH:
            os.kill(os.getpid(), signal.SIGINT)
    assert (tmp_path / "model" / "model.json").is_file()


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_second_signal_acts_as_usual(first: int, second: int, received: list[int]) -> None:
    with listening() as ear:
        assert ear.heard is None
        os.kill(os.getpid(), first)
        assert (ear.heard, received) == (first, [])
        os.kill(os.getpid(), second)
        assert (ear.heard, received) == (first, [second])
    os.kill(os.getpid(), first)
    assert received == [second, first]


def test_handlers_are_put_back_when_what_is_within_fails(received: list[int]) -> None:
    with pytest.raises(RuntimeError, match="within"), listening():
        raise RuntimeError("within")
    os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT]


def test_outside_the_main_thread_nothing_changes() -> None:
    handlers = [signal.getsignal(known) for known in SIGNALS]
    within: list[object] = []

    def listen() -> None:
        with listening() as ear:
            within.extend([ear.heard, *(signal.getsignal(known) for known in SIGNALS)])

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert within == [None, *handlers]
