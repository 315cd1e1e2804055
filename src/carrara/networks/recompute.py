"""Less memory for more time: parts of a network that keep only what they were given, and are computed again in backward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from carrara import native
from carrara.errors import InputError


class Recomputable(nn.Module):
    """A part of a network that may be computed twice: where `recompute` is set, what it computes inwardly is not kept for backward.

    Its dropout, its precision and its kernels are the same the second time, and so the gradients are, bit for bit.

    Source: Training Deep Nets with Sublinear Memory Cost, Chen et al., 2016.
    """

    recompute = False

    def __call__(self, *given: Any) -> Any:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(super().__call__, *given, use_reentrant=False, context_fn=_same_kernels())
        return super().__call__(*given)


def _same_kernels() -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """For the first and the second time: the kernels of now."""
    now = native.current()
    return lambda: (nullcontext(), native.chosen(now))


def recompute(network: nn.Module, on: bool = True) -> None:
    """Sets every part of the network that can be recomputed so, or not so. Raises InputError where there is none to set."""
    parts = [part for part in network.modules() if isinstance(part, Recomputable)]
    if on and not parts:
        raise InputError(
            f"training.checkpointing is true, and {type(network).__name__} has no part that can be recomputed; set it to false, "
            "or let the network's blocks be carrara.networks.recompute.Recomputable"
        )
    for part in parts:
        part.recompute = on
