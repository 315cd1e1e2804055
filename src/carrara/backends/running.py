"""A backend put in a network's place, once it is shown to compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from carrara.conditions.base import Condition
from carrara.denoisers import Cond, Network
from carrara.errors import InputError
from carrara.plugins import find
from carrara.rng import Streams

TORCH = "torch"
"""The network itself, in float32: what there is without a backend."""
LIMITS = {"float32": 1e-3, "bfloat16": 0.08}
"""The largest relative error of the network's output, for each precision."""
ROWS = 6
"""Samples that a backend is compared on; the last one has the null condition."""

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Inputs:
    """What a network is called with: x (B, C, *), level (B,) and the condition."""

    x: Tensor
    level: Tensor
    cond: Cond | None

    def first(self, rows: int) -> Inputs:
        """The first `rows` of the batch."""
        cond = None if self.cond is None else {name: value[:rows] for name, value in self.cond.items()}
        return Inputs(self.x[:rows], self.level[:rows], cond)


Backend = Callable[[nn.Module, Inputs], tuple[Network, Precision]]
"""Raises InputError (MissingExtra for a package) for a network that it cannot compute."""


@dataclass(frozen=True)
class Running:
    """Called in the network's place, without gradients: raw output (B, outputs, *) from x (B, C, *), level (B,), condition."""

    name: str
    precision: Precision
    error: float
    """Relative to the network itself, on a fixed batch."""
    network: Network

    def __call__(self, x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor:
        return self.network(x, level, cond)

    def remembering(self, name: str) -> Any:
        """What computes the network's method of this name, `following` or `reading`; None where the backend has nothing for it."""
        found = getattr(self.network, "remembering", None)
        return found and found(name)

    def described(self) -> str:
        """What it is and how far from the network itself, in a line."""
        return (
            f"{self.name}: {self.precision}, relative error {self.error:.1e} against the network itself "
            f"(at most {LIMITS[self.precision]:g})"
        )


def running(
    name: str, registry: Mapping[str, str], denoiser: Any, shape: tuple[int, ...], condition: Condition
) -> Running:
    """The backend of this name, computing a denoiser's network for samples x0 of this shape under this condition.

    Raises InputError for an unknown name, and for a backend whose output is not the network's.
    """
    backend: Backend = find("backend", name, registry)
    network: nn.Module = denoiser.network
    example = fixed(denoiser, shape, condition)
    with torch.no_grad():
        computes, precision = backend(network, example)
        error = relative_error(computes(example.x, example.level, example.cond), network, example)
    if not error <= LIMITS[precision]:
        raise InputError(
            f"the backend {name!r} computes this network with a relative error of {error:.2g}; for {precision} at most "
            f"{LIMITS[precision]:g} is let through. Use another backend: {TORCH!r} is the network itself"
        )
    return Running(name, precision, error, computes)


def fixed(denoiser: Any, shape: tuple[int, ...], condition: Condition) -> Inputs:
    """What backends are compared on: the process's probe, at levels from data to noise, the classes in turn and the null."""
    device = next(denoiser.network.parameters()).device
    x = denoiser.process.probe(shape, Streams(range(ROWS)))
    asked, null = condition.ask(ROWS - 1), condition.null(1)
    cond = None
    if asked is not None and null is not None:
        cond = {name: torch.cat([value, null[name]]).to(device) for name, value in asked.items()}
    return Inputs(x.to(device), torch.linspace(0, 1, ROWS).to(device), cond)


def relative_error(output: Tensor, network: nn.Module, example: Inputs) -> float:
    """‖output − the network's own‖ / ‖the network's own‖ over the whole batch; 0 where both are nothing."""
    own = network(example.x, example.level, example.cond)
    if output.shape != own.shape:
        return float("inf")
    return float((output.float() - own).norm() / own.norm().clamp(min=1e-12))
