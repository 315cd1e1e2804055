"""The operations that take a network's time, in one place, so that each has its fastest form here and nowhere else.

Pictures are (B, C, H, W), tokens (B, N, C). Each function has torch's meaning; which kernel computes it is decided here: our own
(carrara.native) on a CPU, in float32 or bfloat16, torch's everywhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.native import operators as native


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, more: Tensor | None = None) -> Tensor:
    """x (B, C, H, W) convolved with weight (K, C, 3, 3), a border of one zero around it, + more where given: (B, K, H, W)."""
    if native.serve(x) and native.tiles(x) >= native.TILES:
        own: Tensor = native.conv3x3(x.to(native.computed_in(x)), weight, bias, more)
        return own
    y = F.conv2d(x, weight, bias, padding=1)
    return y if more is None else y + more


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = False,
    eps: float = 1e-5,
) -> Tensor:
    """GroupNorm of x (B, C, H, W), then · (1 + scale) + shift where given, each (B, C), then SiLU where asked."""
    if native.serve(x):
        if scale is not None and shift is not None:
            weight, bias = weight * (1 + scale.float()), torch.addcmul(shift.float(), bias, 1 + scale.float())
        own: Tensor = native.group_norm(x.to(native.computed_in(x)), weight, bias, groups, eps, silu)[0]
        return own
    h = F.group_norm(x, groups, weight, bias, eps)
    if scale is not None and shift is not None:
        h = torch.addcmul(shift[:, :, None, None], h, 1 + scale[:, :, None, None])
    return F.silu(h) if silu else h


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """x (B, N, C) with mean 0 and variance 1 over its channels, · (1 + scale) + shift, each (B, C)."""
    if native.serve(x):
        own: Tensor = native.layer_norm(x.to(native.computed_in(x)), 1 + scale.float(), shift.float(), eps)[0]
        return own
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale[:, None])


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √D) v for (B, heads, N, D) and (B, heads, M, D): (B, heads, N, D)."""
    # Written out: on a CPU, with few tokens and wide heads, it is several times faster than the fused operation.
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v
