"""What a run computes in, and with whose kernels: chosen once by measuring, and kept with the run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from carrara import native
from carrara.native.common import usable

if TYPE_CHECKING:
    from carrara.training.settings import Training
    from carrara.training.trainable import Trainable

PRECISIONS: tuple[Literal["float32", "bf16"], ...] = ("float32", "bf16")
KERNELS: tuple[native.Kernels, ...] = ("native", "torch")


@dataclass(frozen=True)
class Computing:
    """How networks are computed in training. Weights, their averages and the optimiser's moments are float32 always."""

    precision: Literal["float32", "bf16"] = "float32"
    kernels: native.Kernels = "torch"

    @contextmanager
    def within(self, device: torch.device) -> Iterator[None]:
        """Inside, networks on this device are computed so."""
        half = self.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=half), native.chosen(self.kernels):
            yield

    def as_dict(self) -> dict[str, Any]:
        """{"precision": …, "kernels": …}."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.precision}, {'own' if self.kernels == 'native' else 'torch’s'} kernels"


def kept(facts: dict[str, Any]) -> Computing:
    """What a run's facts say of it; runs of before there were kernels of our own have torch's."""
    return Computing(facts["precision"], facts.get("kernels", "torch"))


def candidates(settings: Training) -> list[Computing]:
    """What the settings leave to choose from."""
    precisions = PRECISIONS if settings.precision == "auto" else (settings.precision,)
    kernels = KERNELS if settings.kernels == "auto" else (settings.kernels,)
    return [Computing(p, k) for p in precisions for k in kernels if k == "torch" or usable()] or [
        Computing(p) for p in precisions
    ]


def fastest(trainable: Trainable, among: Sequence[Computing], part: int = 32, steps: int = 3) -> Computing:
    """The one that trains fastest here: forward and backward of at most `part` images, and at most 32, the best of `steps` after
    one to warm up.
    """
    if len(among) == 1:
        return among[0]
    before, best = trainable.computing, {}
    for computing in among:
        trainable.computing = computing
        best[computing] = min(_seconds(trainable, min(part, 32)) for _ in range(steps + 1))
    trainable.computing = before
    return min(best, key=lambda each: best[each])


def _seconds(trainable: Trainable, count: int) -> float:
    start = time.perf_counter()
    for name, player in trainable.players.items():
        player.eval()  # What learns from losses must not learn from these.
        torch.autograd.backward(trainable.loss(name, 0, count).mean())
        player.zero_grad(set_to_none=True)
        player.train()
    return time.perf_counter() - start
