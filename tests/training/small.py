"""Runs small enough to be trained many times in a test, and what two of them must have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carrara.recipe import Recipe, changed, check
from carrara.training import checkpoints
from carrara.training.budget import Asked
from carrara.training.computing import Computing
from carrara.training.learner import Learner
from carrara.training.run import CHECKPOINTS, MODEL, Run
from carrara.training.settings import Training

BATCH = 16
TRAINING: dict[str, Any] = {
    "batch": BATCH,
    "warmup_images": 64,
    "previews": 2,
    "checkpoint_s": 0,
    "precision": "float32",
    "kernels": "native",
    "keep": 3,
}
CONTENT: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"kind": "digits"},
    "network": {"kind": "unet", "width": 8, "depth": 1, "dropout": 0.1},
    "training": TRAINING,
    "sampling": {"sampler": "euler", "steps": 2},
}


@dataclass(frozen=True)
class Runs:
    """Runs of one small recipe, changed here and there."""

    content: dict[str, Any]

    def recipe(self, *changes: str) -> Recipe:
        return check(changed(self.content, changes))

    def opened(self, folder: Path, images: int = 160, changes: Sequence[str] = (), **options: Any) -> Run:
        return Run(self.recipe(*changes), folder, Asked(images=images), **options)

    def trained(self, folder: Path, images: int = 160, changes: Sequence[str] = (), steps: int | None = None) -> Run:
        """A run after so many steps, its generator closed as by a process that ends; None: to its end."""
        return stepped(self.opened(folder, images, changes), steps)


RUNS = Runs(CONTENT)
recipe, opened, trained = RUNS.recipe, RUNS.opened, RUNS.trained


def stepped(run: Run, steps: int | None = None) -> Run:
    """The run after so many steps, its generator closed as by a process that ends; None: to its end."""
    with closing(run.train()) as progress:
        for _ in progress if steps is None else zip(range(steps), progress, strict=False):
            pass
    return run


def state(run: Run) -> dict[str, Tensor]:
    """Everything a run learns, by name."""
    learner = run.learner
    found = {f"buffer {key}": value for key, value in learner.buffers().items()}
    for name, named in learner.parameters.items():
        found |= {f"weight {key}": p.detach() for key, p in named.items()}
        found |= {f"average {key}": p for key, p in learner.average[name].items()}
        found |= learner.optimisers[name].moments()
    return {key: value.clone() for key, value in found.items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """The names under which the two are not bit for bit the same."""
    assert one.keys() == other.keys()
    return [key for key, value in one.items() if not torch.equal(value, other[key])]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("images_per_s", "seconds")} for line in lines]


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of the finished model's weights and of the preview pictures."""
    pictures = {path.name: path.read_bytes() for path in sorted((folder / "samples").iterdir())}
    return {"weights": (folder / MODEL / "network.safetensors").read_bytes(), **pictures}


def images_on_disk(folder: Path) -> int:
    """Images seen by the newest whole checkpoint; 0 where there is none."""
    path = checkpoints.newest(folder / CHECKPOINTS)
    return 0 if path is None else int(path.name)


class Line(nn.Module):
    """The smallest player: y = w · x, whose loss is any function of w and of the image's number."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([start]))
        self.b = nn.Parameter(torch.zeros(2))
        self.register_buffer("seen", torch.zeros(1))


class Toy:
    """A trainable with one Line; its losses are told by a function of the Line and the images' numbers."""

    def __init__(self, loss: Callable[[Line, Tensor], Tensor]) -> None:
        self.computing = Computing()
        self.line = Line()
        self.players: dict[str, nn.Module] = {"line": self.line}
        self.memory: nn.Module = nn.Module()
        self.share = 1.0
        self.facts: dict[str, Any] = {}
        self.tell = loss

    def loss(self, player: str, start: int, count: int) -> Tensor:
        self.line.get_buffer("seen").add_(count)
        return self.tell(self.line, torch.arange(start, start + count))

    def rate(self, player: str, start: int) -> float:
        return self.share if start < 8 else 1.0

    def heldout(self) -> dict[str, float]:
        return {}


def learner(loss: Callable[[Line, Tensor], Tensor], **settings: Any) -> Learner:
    options = {"batch": 4, "lr": 0.1, "warmup_images": 0, "cooldown": 0.0, "ema_images": 40.0, **settings}
    return Learner(Toy(loss), Training(**options), seed=1)


class Normed(nn.Module):
    """A network that learns buffers beside its parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, level: Tensor, cond: Any = None) -> Tensor:
        return self.mix(self.norm(x)) * (1 + level[:, None, None, None])


class Faulty(Normed):
    """A network whose output in training is NaN the `fail_at`-th time."""

    def __init__(self, channels: int, fail_at: int) -> None:
        super().__init__(channels)
        self.calls, self.fail_at = 0, fail_at

    def forward(self, x: Tensor, level: Tensor, cond: Any = None) -> Tensor:
        self.calls += self.training
        out = super().forward(x, level, cond)
        return out * float("nan") if self.training and self.calls == self.fail_at else out
