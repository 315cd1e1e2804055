"""A peer behind one handle: trained, sampled and kept as its own makers recommend."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from carrara import files
from carrara.errors import InputError

SIZE = 32
"""Pixels of a side of the pictures that rivals are given: a power of two, which their networks ask for."""


class Mode(NamedTuple):
    """What a rival computes in."""

    name: str
    bf16: bool = False
    channels_last: bool = False

    def autocast(self) -> AbstractContextManager[Any]:
        """Within, torch computes in bf16 what it holds safe, where the mode says so."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def laid(self, value: Any) -> Any:
        """A module or a tensor (B, C, H, W) in the mode's order of memory; a module in place."""
        return value.to(memory_format=torch.channels_last) if self.channels_last else value


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("float32"),
        Mode("bf16", bf16=True),
        Mode("channels_last", channels_last=True),
        Mode("bf16 channels_last", bf16=True, channels_last=True),
    )
}
"""The ways torch offers without compiling."""


class Rival(ABC):
    """A network of a peer's with its optimiser, learning rate and average, for pictures (B, channels, 32, 32).

    A subclass makes `optimiser` and answers `_loss`, `_followed`, `_extra`, `average`, `sample` and `example`.
    """

    clip = 1.0
    """The norm above which gradients are scaled down: both peers' own."""
    optimiser: torch.optim.Optimizer
    batch: int
    """Images of a step."""

    def __init__(self, net: nn.Module, mode: Mode) -> None:
        self.net: nn.Module = mode.laid(net)
        self.mode = mode
        self.steps = 0

    @property
    def parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(p.numel() for p in self.net.parameters())

    @property
    def images(self) -> int:
        """The images seen in training."""
        return self.steps * self.batch

    def train_step(self, images: Tensor, labels: Tensor) -> float:
        """The loss of one step on images uint8 (B, C, 32, 32) and labels int64 (B,).

        Times and noise come from torch's own generator, as both peers draw them: seed it outside.
        """
        self.net.train()
        with self.mode.autocast():
            loss = self._loss(self.mode.laid(images.float() / 255), labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimiser.step()
        self._followed()
        self.optimiser.zero_grad()
        self.steps += 1
        return float(loss.detach())

    @abstractmethod
    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of images in [0, 1]."""

    @abstractmethod
    def _followed(self) -> None:
        """What comes after the optimiser's step: the learning rate's, the average's."""

    @abstractmethod
    def average(self) -> dict[str, Tensor]:
        """The averaged weights, by the network's names."""

    @abstractmethod
    def sample(self, n: int, labels: Tensor, seed: int, steps: int | None = None) -> Tensor:
        """n pictures uint8 (n, C, 32, 32) of the network as it is; `steps` None: as recommended, or as near as is paid for."""

    @abstractmethod
    def example(self, batch: int) -> tuple[Tensor, ...]:
        """What the network is called with, for `batch` pictures of noise."""

    def evaluation(self, batch: int) -> Callable[[], Any]:
        """A call that evaluates the network once, without gradients, always on the same `batch` pictures of noise."""
        inputs = self.example(batch)
        self.net.eval()

        @torch.no_grad()
        def evaluate() -> Any:
            with self.mode.autocast():
                return self.net(*inputs)

        return evaluate

    @abstractmethod
    def _extra(self) -> dict[str, Any]:
        """What a subclass keeps beside network and optimiser: each has state_dict and load_state_dict."""

    def state(self) -> bytes:
        """Everything training goes on from."""
        kept = {"net": self.net, "optimiser": self.optimiser, **self._extra()}
        buffer = io.BytesIO()
        torch.save({"steps": self.steps, **{name: part.state_dict() for name, part in kept.items()}}, buffer)
        return buffer.getvalue()

    def put_state(self, path: Path) -> None:
        """Goes on from what `state` gave, read from a file."""
        found = torch.load(path, weights_only=True)
        self.steps = found["steps"]
        for name, part in {"net": self.net, "optimiser": self.optimiser, **self._extra()}.items():
            part.load_state_dict(found[name])

    def save_average(self, path: Path) -> None:
        """Writes the averaged weights, at once or not at all."""
        buffer = io.BytesIO()
        torch.save(self.average(), buffer)
        files.write(path, buffer.getvalue())

    def put_average(self, path: Path) -> None:
        """Gives the network the averaged weights of a file, to sample with."""
        self.net.load_state_dict(torch.load(path, weights_only=True))
        self.net.eval()


def bytes_of(x: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8; what lies outside is clipped."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def noise(batch: int, channels: int) -> Tensor:
    """Always the same noise (batch, channels, 32, 32), to evaluate a network on."""
    return torch.randn((batch, channels, SIZE, SIZE), generator=torch.Generator().manual_seed(0))


def check_labels(n: int, labels: Tensor) -> None:
    """Raises InputError unless there is a label for each of n samples."""
    if labels.shape != (n,):
        raise InputError(f"{n} samples were asked for, and labels of shape {tuple(labels.shape)}; give ({n},)")
