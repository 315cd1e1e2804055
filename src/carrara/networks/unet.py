"""A U-Net for small pictures, sized by one width and laid out for a CPU.

Pictures of 24 pixels and more are first folded, 2×2 pixels into channels, so that no convolution runs at the resolution where a
pixel costs most and says least; width goes where the picture is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.blocks import Attention, Fourier, Norm, Residual, as_pixels, as_tokens, padded, zeroed
from carrara.networks.layers import Conv1x1, Conv3x3
from carrara.networks.options import require
from carrara.networks.recompute import Recomputable
from carrara.networks.text import Text, TextAttention, text_tokens

ATTEND = 8
"""The longest side, in folded pixels, at which attention runs."""


class UNet(nn.Module):
    """Raw output (B, outputs, H, W) from x (B, channels, H, W), level (B,) in [0, 1] and {"label": (B,)}.

    `channels`, `size` (the longer side, pixels) and `classes` (0: no labels; label `classes` is the null) come from the data,
    `outputs` (None: as many as channels) from what is to be predicted. Told of text, it attends to that wherever it attends to
    itself, see carrara.networks.text: `text_width`, `text_vocab` and `text_length` come from the condition.

    Source: U-Net, Ronneberger et al., 2015; residual blocks with adaptive norms as in Diffusion Models Beat GANs on Image
    Synthesis, Dhariwal & Nichol, 2021, section 3.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int = 0,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.0,
        head_width: int = 64,
        fold: int | None = None,
        growth: int = 2,
        outputs: int | None = None,
        text_width: int = 0,
        text_vocab: int = 0,
        text_length: int = 0,
    ) -> None:
        """`width`: channels at the highest resolution, a multiple of 8; each lower one has `growth` times as many, at most four
        times `width`. `depth`: residual blocks a resolution. `fold`: the side of the square of pixels that is folded into channels
        before anything else; None: 2 for pictures of 24 pixels and more, else 1. Attention runs where a side is 8 pixels or fewer.
        """
        super().__init__()
        _check(width, depth, dropout, head_width, fold, growth)
        self.fold = (2 if size >= 24 else 1) if fold is None else fold
        self.classes = classes
        sides = _sides(-(-size // self.fold))
        widths = [width * min(growth**i, 4) for i in range(len(sides))]
        self.multiple = self.fold * 2 ** (len(sides) - 1)
        emb, folded = 4 * width, channels * self.fold**2
        self.level = nn.Sequential(Fourier(2 * width), nn.Linear(2 * width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Embedding(classes + 1, emb) if classes else None

        def stage(inputs: int, outputs: int, side: int) -> Stage:
            return Stage(inputs, outputs, emb, side <= ATTEND, dropout, head_width)

        self.enter = Conv3x3(folded, width)
        self.down, kept = _encoder(stage, sides, widths, depth)
        self.middle = Stage(widths[-1], widths[-1], emb, True, dropout, head_width)
        self.up = _decoder(stage, sides, widths, depth, kept)
        self.norm = Norm(width)
        leaving = (outputs or channels) * self.fold**2
        self.leave = zeroed(Conv3x3(width, leaving))
        # Last, so that all else is drawn as in a network that is not told of text.
        self.text = text_tokens(emb, emb, text_width, text_vocab, text_length)
        if self.text is not None:
            for part in (*self.down, self.middle, *self.up):
                if isinstance(part, Stage) and isinstance(part.attention, Attention):
                    part.told = TextAttention(part.outputs, emb, head_width)

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        text = None if self.text is None else self.text(cond, len(x))
        emb = F.silu(self.embed(level, cond, text))
        h = self.enter(F.pixel_unshuffle(padded(x, self.multiple), self.fold))
        skips = [h]
        for stage in self.down:
            h = stage(h, emb, text)
            skips.append(h)
        h = self.middle(h, emb, text)
        for stage in self.up:
            if isinstance(stage, Stage):
                h = torch.cat([h, skips.pop()], dim=1)  # Before the call, in which neither of the two is then held.
            h = stage(h, emb, text)
        h = F.pixel_shuffle(self.leave(self.norm(h, silu=True)), self.fold)
        return h[..., : x.shape[-2], : x.shape[-1]]

    def embed(self, level: Tensor, cond: Mapping[str, Tensor] | None, text: Text | None = None) -> Tensor:
        """The embedding (B, 4 · width) of the noise level, the label and the text."""
        emb: Tensor = self.level(level)
        if self.text is not None and text is not None:
            emb = emb + self.text.pooled(text)
        if self.label is None:
            return emb
        label = torch.full_like(level, self.classes, dtype=torch.long) if cond is None else cond["label"]
        out: Tensor = emb + self.label(label)
        return out


class Stage(Recomputable):
    """A residual block, and attention after it where asked, then to the text: (B, inputs, H, W) -> (B, outputs, H, W)."""

    told: TextAttention | None

    def __init__(
        self, inputs: int, outputs: int, embedding: int, attend: bool, dropout: float, head_width: int
    ) -> None:
        super().__init__()
        self.block = Residual(inputs, outputs, embedding, dropout)
        self.attention = Attention(outputs, head_width) if attend else nn.Identity()
        self.outputs, self.told = outputs, None

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None = None) -> Tensor:
        out: Tensor = self.attention(self.block(x, embedding))
        if self.told is None or text is None:
            return out
        return as_pixels(self.told(as_tokens(out), text), out)


class Downsample(nn.Module):
    """Half the side: 2×2 pixels folded into channels and mixed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Conv1x1(4 * inputs, outputs)

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None = None) -> Tensor:
        out: Tensor = self.mix(F.pixel_unshuffle(x, 2))
        return out


class Upsample(nn.Module):
    """Twice the side: channels mixed and unfolded into 2×2 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Conv1x1(inputs, 4 * outputs)

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None = None) -> Tensor:
        return F.pixel_shuffle(self.mix(x), 2)


def _encoder(
    stage: Callable[[int, int, int], Stage], sides: list[int], widths: list[int], depth: int
) -> tuple[nn.ModuleList, list[int]]:
    """The way down: `depth` stages a resolution, and the width of each output that the way up will need."""
    layers, at, kept = nn.ModuleList(), widths[0], [widths[0]]
    for i, (side, width) in enumerate(zip(sides, widths, strict=True)):
        if i > 0:
            layers.append(Downsample(at, width))
            kept.append(width)
            at = width
        for _ in range(depth):
            layers.append(stage(at, width, side))
            kept.append(width)
            at = width
    return layers, kept


def _decoder(
    stage: Callable[[int, int, int], Stage], sides: list[int], widths: list[int], depth: int, kept: list[int]
) -> nn.ModuleList:
    """The way up: a stage for each output that was kept, the newest first, each beside what comes from below."""
    layers, at, kept = nn.ModuleList(), widths[-1], list(kept)
    for i, (side, width) in reversed(list(enumerate(zip(sides, widths, strict=True)))):
        for _ in range(depth + 1):
            layers.append(stage(at + kept.pop(), width, side))
            at = width
        if i > 0:
            layers.append(Upsample(at, widths[i - 1]))
            at = widths[i - 1]
    return layers


def _check(width: int, depth: int, dropout: float, head_width: int, fold: int | None, growth: int) -> None:
    """Raises InputError for options that make no network."""
    require(
        ("width", width, width >= 8 and width % 8 == 0, "a multiple of 8, at least 8"),
        ("depth", depth, depth >= 1, "at least 1 block a resolution"),
        ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
        ("head_width", head_width, head_width >= 1, "at least 1"),
        ("fold", fold, fold is None or fold >= 1, "at least 1 pixel, or none to leave it to the size"),
        ("growth", growth, growth >= 1, "at least 1"),
    )


def _sides(side: int) -> list[int]:
    """The side of the picture at each resolution: halved until it is 8 or fewer, and at least once where it is above 4."""
    sides = [side]
    while sides[-1] > ATTEND or (len(sides) == 1 and side > 4):
        sides.append(-(-sides[-1] // 2))
    return sides
