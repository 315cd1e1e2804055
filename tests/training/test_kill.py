"""kill -9 at random moments: nothing that was saved is lost, and the finished run is as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from small import differing, files_of, images_on_disk, metrics, opened, state, trained

IMAGES = 960
CHANGES = ["training.checkpoint_s=0.02"]


class Zygote:
    """Starts training processes without the cost of importing torch for each, see zygote.py."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def train(self, folder: Path, kill_after_s: float | None = None) -> int:
        """The exit code of the training process; −9 where it was killed."""
        assert self.process.stdin is not None
        job = {"folder": str(folder), "images": IMAGES, "changes": CHANGES}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        pid = self._answer()
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            with suppress(ProcessLookupError):  # It may have finished.
                os.kill(pid, signal.SIGKILL)
        return self._answer()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Zygote(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_equals_the_whole_run(
    tmp_path: Path, zygote: Zygote, caplog: pytest.LogCaptureFixture, kills: int
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    trained(whole, IMAGES, CHANGES)
    chance = random.Random(kills)
    on_disk, codes = [0], []
    for _ in range(kills):
        codes.append(zygote.train(folder, chance.uniform(0.02, 0.5 if kills == 4 else 0.35)))
        on_disk.append(images_on_disk(folder))
    assert zygote.train(folder) == 0
    assert set(codes) <= {0, -9} and codes.count(-9) >= kills // 2
    assert on_disk == sorted(on_disk)
    starts = [int(line) for line in Path(f"{folder}.starts").read_text().split()]
    assert set(starts) <= set(on_disk) and starts[-1] == on_disk[-1]
    assert caplog.text == ""
    one, other = opened(folder, IMAGES, CHANGES), opened(whole, IMAGES, CHANGES)
    assert differing(state(one), state(other)) == []
    assert metrics(folder) == metrics(whole)
    assert files_of(folder) == files_of(whole)
