"""The network computed by torch, operation by operation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from carrara.backends.running import Inputs, Precision
from carrara.denoisers import Cond, Network
from carrara.networks.layers import Conv1x1

SOONER_IN_FLOAT32 = ("cpu",)
"""Where a step of a few tokens is sooner without casts: a picture by itself takes half as long again in bf16."""


def float32(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network itself."""
    return network, "float32"


def bf16(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network with its products and convolutions in bf16, as in training; sums and norms stay in float32."""
    return Half(network), "bfloat16"


class Half:
    """The network in bf16: what it gives is float32 again, or what is asked in."""

    def __init__(self, network: nn.Module) -> None:
        self.half = halved(network)

    def __call__(self, x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            out: Tensor = self.half(x, level, cond)
        return out.to(torch.promote_types(x.dtype, torch.float32))

    def remembering(self, name: str) -> Callable[..., tuple[Tensor, Any]] | None:
        """The same of the network's `following`, or `reading`, whose memory is then in bf16; None where it has no such method.

        None, too, on devices in SOONER_IN_FLOAT32: the network itself is asked then.
        """
        own = getattr(self.half, name, None)
        if own is None or next(self.half.parameters()).device.type in SOONER_IN_FLOAT32:
            return None

        def computes(tokens: Tensor, cond: Cond | None, memory: Any, /) -> tuple[Tensor, Any]:
            with torch.autocast(tokens.device.type, torch.bfloat16):
                out, memory = own(tokens, cond, memory)
            return out.float(), memory

        return computes


def halved(network: nn.Module) -> nn.Module:
    """The network with the weights of its matrix products in bf16, once and not in every evaluation; the others are shared."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | Conv1x1)]
    cast = {id(parameter) for layer in layers for parameter in layer.parameters()}
    shared = [value for value in (*network.parameters(), *network.buffers()) if id(value) not in cast]
    copied = copy.deepcopy(network, {id(value): value for value in shared})
    for module in copied.modules():
        if isinstance(module, nn.Linear | Conv1x1):
            module.to(torch.bfloat16)
    return copied.eval()
