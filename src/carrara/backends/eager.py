"""The network computed by torch, operation by operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from carrara.backends.running import Inputs, Precision
from carrara.denoisers import Cond, Network


def float32(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network itself."""
    return network, "float32"


def bf16(network: nn.Module, example: Inputs) -> tuple[Network, Precision]:
    """The network with its products and convolutions in bf16, as in training; sums and norms stay in float32."""

    def computes(x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            out: Tensor = network(x, level, cond)
        return out.to(x.dtype)

    return computes, "bfloat16"
