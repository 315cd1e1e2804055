"""metrics.jsonl, and the same figures for TensorBoard where its writer is installed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
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
        """Writes the figures at this count of images. Raises NoRoom where the disk is full."""
        with files.room(self.path):
            with self.path.open("a") as file:
                file.write(json.dumps({"images": images, **figures}) + "\n")
            if self._board is not None:
                self._board.add(images, figures)

    def close(self) -> None:
        """Flushes and closes what is open."""
        if self._board is not None:
            with suppress(OSError):  # A disk that is full was told when there was something to write.
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


class Board:
    """TensorBoard's event file, written at once: of a thread that writes it nobody sees the end where the disk is full."""

    def __init__(self, folder: Path, images: int) -> None:
        """Raises ImportError where tensorboardX is not installed."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        # What was written after these images before does not count any more.
        self._writer.write_event(
            Event(wall_time=time.time(), step=images + 1, session_log=SessionLog(status=SessionLog.START))
        )
        self._writer.flush()

    def add(self, images: int, figures: Mapping[str, float]) -> None:
        """Writes the figures at this count of images."""
        for name, value in figures.items():
            self._writer.write_event(
                self._event(wall_time=time.time(), step=images, summary=self._scalar(name, value))
            )
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _board(folder: Path, images: int) -> Board | None:
    try:
        with files.room(folder):
            return Board(folder, images)
    except ImportError:
        return None
