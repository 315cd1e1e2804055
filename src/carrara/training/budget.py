"""How long a run is: in images, or in minutes that become images once the rate is measured."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carrara.errors import InputError
from carrara.training.trainable import Trainable

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


def faster_precision(trainable: Trainable, part: int = 32, steps: int = 3) -> str:
    """ "bf16" or "float32", whichever trains faster here: forward and backward of at most `part` images, and at most 32,
    the best of `steps` after one to warm up.
    """
    before = trainable.precision
    best = {}
    for precision in ("float32", "bf16"):
        trainable.precision = precision
        best[precision] = min(_seconds(trainable, min(part, 32)) for _ in range(steps + 1))
    trainable.precision = before
    return min(best, key=lambda name: best[name])


def _seconds(trainable: Trainable, count: int) -> float:
    start = time.perf_counter()
    for name, player in trainable.players.items():
        player.eval()  # What learns from losses must not learn from these.
        torch.autograd.backward(trainable.loss(name, 0, count).mean())
        player.zero_grad(set_to_none=True)
        player.train()
    return time.perf_counter() - start
