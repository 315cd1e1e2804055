"""Building blocks of the networks. Nothing here knows of diffusion."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks import ops
from carrara.networks.layers import Conv1x1, Conv3x3, GroupNorm

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


class Norm(GroupNorm):
    """GroupNorm over `groups(channels)` groups."""

    def __init__(self, channels: int) -> None:
        super().__init__(groups(channels), channels)


class PlaceNorm(nn.Module):
    """RMS norm of each place's channels by themselves, · weight + bias, then SiLU where asked: (B, C, H, W) -> the same.

    A place's numbers depend on no other place: what a network makes of a part of a picture is what it makes of the whole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, silu: bool = False) -> Tensor:
        scale, shift = (p.expand(len(x), -1) for p in (self.scale, self.shift))
        h = as_pixels(ops.rms_norm(as_tokens(x), scale, shift), x)
        return F.silu(h) if silu else h


class Residual(nn.Module):
    """Two 3×3 convolutions with GroupNorm and SiLU, the second norm scaled and shifted by an embedding.

    (B, inputs, H, W), (B, embedding) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = Norm(inputs)
        self.conv1 = Conv3x3(inputs, outputs)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = Norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(Conv3x3(outputs, outputs))
        self.skip = Conv1x1(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding).chunk(2, dim=1)
        h = self.norm2(self.conv1(self.norm1(x, silu=True)), scale, shift, silu=True)
        return widened(self.conv2, self.dropout(h), self.skip, x)


def widened(conv: Conv3x3, h: Tensor, skip: nn.Module, x: Tensor) -> Tensor:
    """conv(h) + skip(x), skip a Conv1x1 or nothing: the two biases are added as one."""
    if isinstance(skip, Conv1x1) and conv.bias is not None and skip.bias is not None:
        return ops.conv3x3(h, conv.weight, conv.bias + skip.bias, ops.conv1x1(x, skip.weight))
    return ops.conv3x3(h, conv.weight, conv.bias, skip(x))


class Attention(nn.Module):
    """Self-attention over the pixels, with few wide heads: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(heads for heads in range(1, max(1, channels // head_width) + 1) if channels % heads == 0)
        self.norm = Norm(channels)
        self.qkv = Conv1x1(channels, 3 * channels)
        self.out = zeroed(Conv1x1(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        mixed = ops.linear_attention(as_tokens(self.norm(x)), self.qkv.weight.flatten(1), self.qkv.bias, self.heads)
        added = ops.linear_added(as_tokens(x), None, mixed, self.out.weight.flatten(1), self.out.bias)
        return as_pixels(added, x)


def as_tokens(x: Tensor) -> Tensor:
    """The pixels of x (B, C, H, W) after one another, (B, H · W, C): no copy where the channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_pixels(tokens: Tensor, like: Tensor) -> Tensor:
    """The other way: tokens (B, H · W, C) as (B, C, H, W), the sides those of `like`."""
    return tokens.reshape(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)
