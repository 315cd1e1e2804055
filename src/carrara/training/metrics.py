"""metrics.jsonl, and the same figures for TensorBoard where its writer is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrara import files

METRICS = "metrics.jsonl"


class Metrics:
    """Appends one JSON object a line; begun again at `images`, it first forgets what came after."""

    def __init__(self, folder: Path, images: int) -> None:
        self.path = folder / METRICS
        kept = [line for line in _lines(self.path) if line["images"] <= images]
        files.write(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._board = _board(folder / "tensorboard", images)

    def add(self, images: int, figures: Mapping[str, float]) -> None:
        """Writes the figures at this count of images."""
        with self.path.open("a") as file:
            file.write(json.dumps({"images": images, **figures}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, images)

    def close(self) -> None:
        """Flushes and closes what is open."""
        if self._board is not None:
            self._board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file: a last one that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _board(folder: Path, images: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=images + 1)
