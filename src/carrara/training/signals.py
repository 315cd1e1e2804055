"""Stopping when asked: a signal is noted, the step in hand is finished, and then the run decides."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ear:
    """The signal that has been heard, if any."""

    heard: int | None = None


@contextmanager
def listening() -> Iterator[Ear]:
    """Within, SIGINT and SIGTERM are only noted; a second one acts as usual. Outside the main thread nothing changes."""
    ear = Ear()
    if threading.current_thread() is not threading.main_thread():
        yield ear
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        ear.heard = number
        for known, handler in usual.items():
            signal.signal(known, handler)

    for number in usual:
        signal.signal(number, note)
    try:
        yield ear
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
