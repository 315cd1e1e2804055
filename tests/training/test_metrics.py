"""metrics.jsonl: begun again anywhere, it holds each line once."""

import errno
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from carrara.errors import NoRoom
from carrara.training.metrics import Metrics


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_are_appended_and_kept_to_the_bit(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.add(16, {"loss": 0.1 + 0.2})
    metrics.add(32, {"loss": 1e-300, "lr": 3})
    metrics.close()
    assert lines(tmp_path) == [{"images": 16, "loss": 0.1 + 0.2}, {"images": 32, "loss": 1e-300, "lr": 3}]


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    first = Metrics(tmp_path, 0)
    for images in (16, 32, 48):
        first.add(images, {"loss": images})
    first.close()
    again = Metrics(tmp_path, 32)
    again.add(48, {"loss": 0.5})
    again.close()
    assert lines(tmp_path) == [{"images": 16, "loss": 16}, {"images": 32, "loss": 32}, {"images": 48, "loss": 0.5}]


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    first, second = '{"images": 16, "loss": 1.0}\n', '{"images": 32, "loss": 2.0}\n'
    for end in range(len(second) - 1):
        (tmp_path / "metrics.jsonl").write_text(first + second[:end])
        Metrics(tmp_path, 64).close()
        assert lines(tmp_path) == [json.loads(first)]


def events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of what TensorBoard reads, a run's beginnings as ("begun", 0)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status:
                found.append((event.step, "begun", 0.0))
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_reads_the_same(tmp_path: Path) -> None:
    """Written at once, and not in a thread: all is there before the file is closed."""
    pytest.importorskip("tensorboardX")
    threads = threading.active_count()
    metrics = Metrics(tmp_path, 32)
    metrics.add(48, {"loss": 0.5, "lr": 0.25})
    assert events(tmp_path) == [(33, "begun", 0.0), (48, "loss", 0.5), (48, "lr", 0.25)]
    assert threading.active_count() == threads
    metrics.close()


def test_a_full_disk_is_named_and_closing_it_says_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = pytest.importorskip("tensorboardX.event_file_writer")
    metrics = Metrics(tmp_path, 0)

    close = board.EventsWriter.close

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def closed_and_full(writer: Any) -> None:
        close(writer)
        full()

    with monkeypatch.context() as patch:
        patch.setattr(board.EventsWriter, "flush", full)
        with pytest.raises(NoRoom, match=r"metrics\.jsonl cannot be written"):
            metrics.add(16, {"loss": 1.0})
    monkeypatch.setattr(board.EventsWriter, "close", closed_and_full)
    metrics.close()
