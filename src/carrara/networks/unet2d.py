"""The U-Net of DDPM, as diffusers builds it in `UNet2DModel`: the network that most published pixel models are.

Its parameters are theirs under other names, see carrara.interop.diffusers_unet. For training on a CPU `unet` is several times
faster; this one is for what was trained elsewhere, and for comparing like with like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks import ops
from carrara.networks.blocks import as_pixels, as_tokens, padded, widened, zeroed
from carrara.networks.layers import Conv1x1, Conv3x3, GroupNorm
from carrara.networks.options import require
from carrara.networks.recompute import Recomputable

LONGEST = 1000
"""What the sinusoids are told at level 1: the number of steps that DDPM counts."""


@dataclass(frozen=True)
class Shared:
    """What all blocks of one network have in common."""

    embedding: int
    groups: int
    eps: float
    dropout: float
    head_width: int | None
    scale_shift: bool


class UNet2D(nn.Module):
    """Raw output (B, outputs, H, W) from x (B, channels, H, W), level (B,) in [0, 1] and {"label": (B,)}.

    `channels`, `size` and `classes` (0: no labels; label `classes` is the null) come from the data, `outputs` (None: as many as
    channels) from what is to be predicted. Sides that cannot be halved often enough are padded within.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, appendix B; the details as in diffusers' UNet2DModel.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int = 0,
        widths: tuple[int, ...] = (64, 128, 128, 128),
        depth: int = 2,
        attend: tuple[int, ...] | None = None,
        head_width: int | None = 8,
        groups: int = 32,
        dropout: float = 0.0,
        scale_shift: bool = False,
        down_padding: int = 1,
        eps: float = 1e-5,
        cos_first: bool = True,
        freq_shift: float = 0,
        outputs: int | None = None,
    ) -> None:
        """`widths`: channels at each resolution, every one half the side of the one before, multiples of `groups`, the number of
        groups of every GroupNorm. `depth`: residual blocks a resolution. `attend`: the resolutions with attention, 0 the highest;
        None: all but the highest. `head_width`: channels a head of attention; None: one head. `scale_shift`: whether the
        embedding scales and shifts a norm; otherwise it is added. `down_padding`: 1: a border of one zero when halving; 0: zeros
        right and below alone. `cos_first` and `freq_shift`: the order and the spacing of the level's sinusoids.
        """
        super().__init__()
        attend = tuple(range(1, len(widths))) if attend is None else attend
        _check(widths, depth, attend, head_width, groups, dropout, down_padding, freq_shift)
        self.classes, self.cos_first, self.freq_shift = classes, cos_first, freq_shift
        self.multiple = 2 ** (len(widths) - 1)
        shared = Shared(4 * widths[0], groups, eps, dropout, head_width, scale_shift)
        emb = shared.embedding
        self.level = nn.Sequential(nn.Linear(widths[0], emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Embedding(classes + 1, emb) if classes else None
        self.enter = Conv3x3(channels, widths[0])
        self.down, kept = _encoder(widths, depth, attend, down_padding, shared)
        last = widths[-1]
        self.middle = nn.ModuleList(
            [Stage(last, last, shared, True, not scale_shift), Stage(last, last, shared, False)]
        )
        self.up = _decoder(widths, depth, attend, kept, shared)
        self.norm = GroupNorm(groups, widths[0], eps)
        self.leave = zeroed(Conv3x3(widths[0], outputs or channels))

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.at(x, LONGEST * level, None if cond is None else cond["label"])

    def at(self, x: Tensor, number: Tensor, label: Tensor | None = None) -> Tensor:
        """What `forward` gives, told the sinusoids' own number (B,), which diffusers calls the timestep; label (B,), None: null."""
        emb = F.silu(self.embed(number, label))
        h = self.enter(padded(x, self.multiple))
        skips = [h]
        for layer in self.down:
            h = layer(h, emb)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, emb)
        for layer in self.up:
            if isinstance(layer, Stage):
                h = torch.cat([h, skips.pop()], dim=1)  # Before the call, in which neither of the two is then held.
            h = layer(h, emb)
        out: Tensor = self.leave(self.norm(h, silu=True))
        return out[..., : x.shape[-2], : x.shape[-1]]

    def embed(self, number: Tensor, label: Tensor | None) -> Tensor:
        """The embedding (B, 4 · widths[0]) of the level's number and the label."""
        waves = sinusoids(number, self.norm.num_channels, self.cos_first, self.freq_shift)
        emb: Tensor = self.level(waves.to(self.norm.weight.dtype))
        if self.label is None:
            return emb
        null = torch.full((number.shape[0],), self.classes, device=number.device)
        out: Tensor = emb + self.label(null if label is None else label)
        return out


def sinusoids(number: Tensor, width: int, cos_first: bool = True, freq_shift: float = 0) -> Tensor:
    """Sines and cosines of number (B,) at frequencies falling from 1 to about 1 / 10000: (B, width) float32.

    Source: Attention Is All You Need, Vaswani et al., 2017, section 3.5, in diffusers' arrangement.
    """
    half = width // 2
    exponents = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=number.device)
    angle = number[:, None].float() * torch.exp(exponents / (half - freq_shift))
    waves = [angle.cos(), angle.sin()] if cos_first else [angle.sin(), angle.cos()]
    return F.pad(torch.cat(waves, dim=1), (0, width % 2))


class Residual(nn.Module):
    """Two 3×3 convolutions with GroupNorm and SiLU, the embedding added between them, or scaling and shifting the second norm.

    (B, inputs, H, W), (B, embedding) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int, shared: Shared) -> None:
        super().__init__()
        self.scale_shift = shared.scale_shift
        self.norm1 = GroupNorm(shared.groups, inputs, shared.eps)
        self.conv1 = Conv3x3(inputs, outputs)
        self.modulate = nn.Linear(shared.embedding, outputs * (1 + shared.scale_shift))
        self.norm2 = GroupNorm(shared.groups, outputs, shared.eps)
        self.dropout = nn.Dropout(shared.dropout)
        self.conv2 = zeroed(Conv3x3(outputs, outputs))
        self.skip = Conv1x1(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h, told = self.conv1(self.norm1(x, silu=True)), self.modulate(embedding)
        if self.scale_shift:
            h = self.norm2(h, *told.chunk(2, dim=1), silu=True)
        else:
            h = self.norm2(h + told[:, :, None, None], silu=True)
        return widened(self.conv2, self.dropout(h), self.skip, x)


class Attention(nn.Module):
    """Self-attention over the pixels: (B, C, H, W) -> the same. Heads that do not fill the channels leave the rest out."""

    def __init__(self, channels: int, shared: Shared, normed: bool = True) -> None:
        super().__init__()
        self.width = shared.head_width or channels
        inner = channels // self.width * self.width
        self.norm = GroupNorm(shared.groups, channels, shared.eps) if normed else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * inner)
        self.out = zeroed(nn.Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        heads = len(self.qkv.weight) // (3 * self.width)
        mixed = ops.linear_attention(as_tokens(self.norm(x)), self.qkv.weight, self.qkv.bias, heads)
        return as_pixels(ops.linear_added(as_tokens(x), None, mixed, self.out.weight, self.out.bias), x)


class Stage(Recomputable):
    """A residual block, and attention after it where asked: (B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, shared: Shared, attend: bool, normed: bool = True) -> None:
        super().__init__()
        self.block = Residual(inputs, outputs, shared)
        self.attention = Attention(outputs, shared, normed) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.attention(self.block(x, embedding))
        return out


class Downsample(nn.Module):
    """Half the side: a 3×3 convolution at every second pixel."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Twice the side: every pixel four times, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def _encoder(
    widths: tuple[int, ...], depth: int, attend: tuple[int, ...], padding: int, shared: Shared
) -> tuple[nn.ModuleList, list[int]]:
    """The way down: `depth` stages a resolution, and the width of each output that the way up will need."""
    layers, at, kept = nn.ModuleList(), widths[0], [widths[0]]
    for i, width in enumerate(widths):
        for _ in range(depth):
            layers.append(Stage(at, width, shared, i in attend))
            at = width
        kept += [width] * depth
        if i < len(widths) - 1:
            layers.append(Downsample(width, padding))
            kept.append(width)
    return layers, kept


def _decoder(
    widths: tuple[int, ...], depth: int, attend: tuple[int, ...], kept: list[int], shared: Shared
) -> nn.ModuleList:
    """The way up: a stage for each output that was kept, the newest first, each beside what comes from below."""
    layers, at, kept = nn.ModuleList(), widths[-1], list(kept)
    for i, width in reversed(list(enumerate(widths))):
        for _ in range(depth + 1):
            layers.append(Stage(at + kept.pop(), width, shared, i in attend))
            at = width
        if i > 0:
            layers.append(Upsample(width))
    return layers


def _check(
    widths: tuple[int, ...],
    depth: int,
    attend: tuple[int, ...],
    head_width: int | None,
    groups: int,
    dropout: float,
    down_padding: int,
    freq_shift: float,
) -> None:
    """Raises InputError for options that make no network."""
    most = len(widths) - 1
    require(
        ("groups", groups, groups >= 1, "at least 1"),
        ("widths", widths, most >= 0, "one number of channels a resolution, at least one"),
        ("widths", widths, min(widths, default=0) >= 2, "at least 2 channels each"),
        ("widths", widths, not any(w % max(1, groups) for w in widths), f"multiples of network.groups, {groups}"),
        ("depth", depth, depth >= 1, "at least 1 block a resolution"),
        ("attend", attend, all(0 <= i <= most for i in attend), f"resolutions from 0, the highest, to {most}"),
        ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
        ("down_padding", down_padding, down_padding in (0, 1), "0 or 1"),
    )
    narrowest, half = min(widths[i] for i in {*attend, most}), widths[0] // 2
    require(
        (
            "head_width",
            head_width,
            head_width is None or 1 <= head_width <= narrowest,
            f"at least 1 and at most {narrowest}, the fewest channels where there is attention; none means one head",
        ),
        ("freq_shift", freq_shift, 0 <= freq_shift < half, f"at least 0 and below {half}, half the first width"),
    )
