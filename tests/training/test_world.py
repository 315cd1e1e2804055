"""Two processes train what one trains, and only the first writes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small import BATCH, differing, images_on_disk, metrics, opened, state, trained

from carrara import tensors
from carrara.errors import InputError
from carrara.training.world import World, join

# Gradients are not clipped: clipping and Adam would hide a gradient that is a sum in place of a mean.
CHANGES = ["network.dropout=0", "train_times.kind=importance", "training.checkpoint_s=3600", "training.clip=1000"]


def together(folder: Path, stop_after: int = 0) -> list[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """What each of two processes has learnt, and what it tells."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder.parent / "taken").mkdir(exist_ok=True)
    (folder.parent / "taken" / "thesis.tex").touch()
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        str(Path(__file__).with_name("rank.py")),
        str(folder),
        str(folder.parent),
        str(stop_after),
    ]
    ranks = [subprocess.Popen([*words, *CHANGES], env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    return [
        (
            tensors.load(folder.parent / f"{rank}.safetensors"),
            json.loads((folder.parent / f"{rank}.json").read_text()),
        )
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    trained(folder, 128, CHANGES)
    return folder


def test_two_processes_equal_one(tmp_path: Path, alone: Path) -> None:
    (first, told), (second, told_second) = together(tmp_path / "run")
    assert differing(first, second) == []
    whole = state(opened(alone, 128, CHANGES))
    for key, value in whole.items():
        torch.testing.assert_close(
            first[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )
    for line, expected in zip(metrics(tmp_path / "run"), metrics(alone), strict=True):
        assert line == pytest.approx(expected, abs=1e-4)
    assert told_second["changed"] == [] and len(told["changed"]) > 10
    assert "is not a run (it holds thesis.tex)" in told["refused"] and told["refused"] == told_second["refused"]


@pytest.mark.slow
def test_one_process_that_is_asked_to_stop_stops_both_and_one_alone_goes_on(tmp_path: Path, alone: Path) -> None:
    (first, told), (second, told_second) = together(tmp_path / "run", stop_after=3 * BATCH)
    assert (told["code"], told_second["code"]) == (143, 143)
    assert images_on_disk(tmp_path / "run") == 4 * BATCH
    assert differing(first, second) == []
    resumed = opened(tmp_path / "run", 128, CHANGES)
    assert differing(state(resumed), first) == []
    trained(tmp_path / "run", 128, CHANGES)
    whole = state(opened(alone, 128, CHANGES))
    for key, value in state(opened(tmp_path / "run", 128, CHANGES)).items():
        torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "told", lambda self, value: value)
    with pytest.raises(InputError, match=r"training\.batch 16 cannot be shared by 3 processes"):
        opened(tmp_path, world=World(0, 3))


def test_the_shares_of_a_batch_are_all_of_it() -> None:
    parts = [World(rank, 4).share(32, 16) for rank in range(4)]
    assert [image for start, count in parts for image in range(start, start + count)] == list(range(32, 48))


def test_a_process_alone_is_the_whole_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join() == World(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    world, values = join(), torch.arange(3.0)
    world.average_([values])
    assert torch.equal(values, torch.arange(3.0)) and world.gather(values) is values
    assert world.any(False, True) == (False, True) and world.told("word") == "word"
    assert world.first and world.share(5, 3) == (5, 3) and world.decided(lambda: 7) == 7
