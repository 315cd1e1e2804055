"""How long a run is: in images, or in minutes that become images once the rate is measured."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara.errors import InputError

MARGIN = 0.97
"""The share of the time left that is given to training: writing the model takes some."""


@dataclass(frozen=True)
class Asked:
    """What the user asked for: one of the two."""

    minutes: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.images is None):
            raise InputError("give either --minutes or --images, one dial for how long to train")
        value = self.minutes if self.images is None else self.images
        if value is None or not 0 < value < math.inf:
            raise InputError(
                f"a run of {value} {'minutes' if self.images is None else 'images'} is not possible; "
                "ask for more than 0, and not for ever"
            )

    def as_dict(self) -> dict[str, Any]:
        """{"minutes": …} or {"images": …}."""
        return {"minutes": self.minutes} if self.images is None else {"images": self.images}

    def budget(self, batch: int) -> int | None:
        """The images of the run in whole batches; None while minutes are not yet images."""
        return None if self.images is None else -(-self.images // batch) * batch

    def images_left(self, elapsed_s: float, reserved_s: float, images_per_s: float) -> float:
        """The images that fit into what is left of the minutes; 0 where nothing is left."""
        assert self.minutes is not None
        return max(0.0, (self.minutes * 60 - elapsed_s - reserved_s) * MARGIN) * images_per_s

    def check_same(self, begun: dict[str, Any], folder: Path) -> None:
        """Raises InputError where the run in the folder was begun with another length."""
        if begun != self.as_dict():
            old = " ".join(f"--{key} {value}" for key, value in begun.items())
            raise InputError(
                f"the run in {folder} was begun with {old}; the same goes on with it. "
                "For another length choose another folder with --out"
            )


def due(images: int, batch: int, budget: int, times: int) -> bool:
    """Whether what is done so many times in a run, evenly spaced, the last at its end, is due after the step that ended here."""
    every = budget / times
    return images >= budget or int(images / every) > int((images - batch) / every)


class Pace:
    """The rate of training, from the median time of the latest steps."""

    def __init__(self, batch: int, memory: int = 64) -> None:
        self.batch, self.memory = batch, memory
        self.start = self.last = time.monotonic()
        self.times: list[float] = []

    def tick(self) -> None:
        """A step has been done."""
        now = time.monotonic()
        self.times = [*self.times[-self.memory + 1 :], now - self.last]
        self.last = now

    def skip(self) -> None:
        """What was done since the last step was not training."""
        self.last = time.monotonic()

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.batch / statistics.median(self.times) if self.times else 0.0

    def measured(self, asked: Asked) -> bool:
        """Whether the rate is known well enough: after 8 % of the minutes, at most 20 s, and 5 steps."""
        assert asked.minutes is not None
        return len(self.times) >= 5 and time.monotonic() - self.start > min(20.0, asked.minutes * 60 * 0.08)
