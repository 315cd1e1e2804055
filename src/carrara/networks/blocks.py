"""Building blocks of the networks. Nothing here knows of diffusion."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


def groups(channels: int) -> int:
    """The number of groups of a GroupNorm: at most 8 (more are slow backwards on a CPU), each of 8 channels or more."""
    return max(g for g in (1, 2, 4, 8) if channels % g == 0 and channels // g >= min(8, channels))


def zeroed(layer: Layer) -> Layer:
    """The layer with all parameters set to zero, so that its branch begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def padded(x: Tensor, multiple: int) -> Tensor:
    """x with its right and bottom edge repeated until both sides are multiples."""
    right, bottom = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x


class Fourier(nn.Module):
    """Sines and cosines of a number in [0, 1] at `width` / 2 frequencies from 1 to 1000 radians, (B,) -> (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, math.log(1000), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, level: Tensor) -> Tensor:
        angle = level[:, None].float() * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class Residual(nn.Module):
    """Two 3×3 convolutions with GroupNorm and SiLU, the second norm scaled and shifted by an embedding.

    (B, inputs, H, W), (B, embedding) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(groups(outputs), outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        out: Tensor = self.skip(x) + self.conv2(self.dropout(h))
        return out


class Attention(nn.Module):
    """Self-attention over the pixels, with few wide heads: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(heads for heads in range(1, max(1, channels // head_width) + 1) if channels % heads == 0)
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        # Written out: on a CPU, with few pixels and wide heads, it is several times faster than the fused operation.
        share = torch.softmax(q.transpose(-1, -2) @ k * (c // self.heads) ** -0.5, dim=-1)
        mixed = v @ share.transpose(-1, -2)
        out: Tensor = x + self.out(mixed.reshape(b, c, h, w))
        return out
