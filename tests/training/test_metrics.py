"""metrics.jsonl: begun again anywhere, it holds each line once."""

import json
from pathlib import Path

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
