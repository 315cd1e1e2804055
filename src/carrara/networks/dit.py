"""The diffusion transformer for pictures: patches as tokens, told of the noise level and the label in every block."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.blocks import Fourier, padded, zeroed
from carrara.networks.options import require
from carrara.networks.text import Text, TextAttention, text_tokens
from carrara.networks.transformer import PER_BLOCK, Transformer

SMALL = 32
"""The longest side, in pixels, up to which a patch is 2×2 unless said otherwise; above it is 4×4."""


class DiT(nn.Module):
    """Raw output (B, outputs, H, W) from x (B, channels, H, W), level (B,) in [0, 1] and {"label": (B,)}.

    `channels`, `size` (the longer side, pixels) and `classes` (0: no labels; label `classes` is the null) come from the data,
    `outputs` (None: as many as channels) from what is to be predicted. Sides that are no multiple of the patch are padded within.
    Told of text, the tokens attend to its tokens after each block, see carrara.networks.text: `text_width`, `text_vocab` and
    `text_length` come from the condition.

    The embedding of level and label is a quarter as wide as the tokens, see Transformer. Positions are sines and cosines, added
    once: turning queries and keys instead would cost time in every block, and the picture's size does not change.

    Source: Scalable Diffusion Models with Transformers, Peebles & Xie, 2023.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int = 0,
        width: int = 256,
        depth: int = 8,
        head_width: int = 64,
        patch: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        outputs: int | None = None,
        text_width: int = 0,
        text_vocab: int = 0,
        text_length: int = 0,
    ) -> None:
        """`width`: numbers a token, a multiple of `head_width`, those of one head of attention (few wide heads are the faster),
        and of 4. `depth`: blocks. `patch`: the side of the square of pixels that is one token; None: 2 for pictures of up to 32
        pixels, 4 for larger ones. `mlp_ratio`: how much wider than a token each block's MLP is.
        """
        super().__init__()
        self.patch = (2 if size <= SMALL else 4) if patch is None else patch
        _check(width, depth, head_width, self.patch, mlp_ratio, dropout)
        self.classes = classes
        emb = max(64, width // 4)
        self.level = nn.Sequential(Fourier(2 * emb), nn.Linear(2 * emb, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Embedding(classes + 1, emb) if classes else None
        self.enter = nn.Linear(channels * self.patch**2, width)
        self.body = Transformer(width, depth, width // head_width, emb, mlp_ratio, dropout)
        self.leave = zeroed(nn.Linear(width, (outputs or channels) * self.patch**2))
        # Last, so that all else is drawn as in a network that is not told of text.
        self.text = text_tokens(width, emb, text_width, text_vocab, text_length)
        if self.text is not None:
            self.told = nn.ModuleList(TextAttention(width, width, head_width) for _ in range(depth))

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        pixels = F.pixel_unshuffle(padded(x, self.patch), self.patch)
        rows, columns = pixels.shape[-2:]
        tokens = self.enter(pixels.flatten(2).transpose(1, 2))
        tokens = tokens + places(rows, columns, tokens.shape[-1], x.device).to(tokens.dtype)
        text = None if self.text is None else self.text(cond, len(x))
        emb = self.embed(level, cond, text)
        tokens = self.leave(self.body(tokens, emb) if text is None else self.reading(tokens, emb, text))
        out = F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), self.patch)
        return out[..., : x.shape[-2], : x.shape[-1]]

    def reading(self, tokens: Tensor, embedding: Tensor, text: Text) -> Tensor:
        """What the body makes of its tokens, which attend to the text after each block."""
        told = self.body.vectors(tokens, embedding)
        for i, (block, read) in enumerate(zip(self.body.blocks, self.told, strict=True)):
            tokens = read(block(tokens, *told[PER_BLOCK * i : PER_BLOCK * (i + 1)]), text)
        shift, scale = told[-2:]
        return self.body.norm(tokens, scale, shift)

    def embed(self, level: Tensor, cond: Mapping[str, Tensor] | None, text: Text | None = None) -> Tensor:
        """The embedding (B, width / 4, at least 64) of the noise level, the label and the text."""
        emb: Tensor = self.level(level)
        if self.text is not None and text is not None:
            emb = emb + self.text.pooled(text)
        if self.label is None:
            return emb
        null = torch.full((level.shape[0],), self.classes, device=level.device)
        out: Tensor = emb + self.label(null if cond is None else cond["label"])
        return out


def places(rows: int, columns: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Where each of rows · columns tokens lies, as sines and cosines: (rows · columns, width) float32, row after row.

    The first half tells the row and the second the column, at frequencies from 1 down to about 1 / 10000 radians a token.

    Source: Peebles & Xie, 2023, who take them from Vaswani et al., 2017.
    """
    quarter = width // 4
    frequencies = torch.exp(-math.log(10_000) * torch.arange(quarter, device=device) / quarter)

    def waves(length: int) -> Tensor:
        angle = torch.arange(length, device=device)[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    down, across = waves(rows)[:, None], waves(columns)[None]
    return torch.cat([down.expand(-1, columns, -1), across.expand(rows, -1, -1)], dim=2).flatten(0, 1)


def _check(width: int, depth: int, head_width: int, patch: int, mlp_ratio: float, dropout: float) -> None:
    """Raises InputError for options that make no network."""
    require(
        ("head_width", head_width, head_width >= 1, "at least 1"),
        ("width", width, width >= 4 and width % 4 == 0, "a multiple of 4, at least 4"),
        ("width", width, width % max(1, head_width) == 0, f"a multiple of network.head_width, {head_width}"),
        ("depth", depth, depth >= 1, "at least 1 block"),
        ("patch", patch, patch >= 1, "at least 1 pixel"),
        ("mlp_ratio", mlp_ratio, mlp_ratio * width >= 1, "positive, and wide enough for one number"),
        ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
    )
