"""What a network of pictures is told in words: the tokens of a text, read once, and attention to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from carrara.networks import ops
from carrara.networks.blocks import zeroed

TEXT, MASK = "text", "text_mask"
"""Under which names a condition has the tokens of its texts, and which of them are there."""
DEPTH = 2
"""Blocks that read letters, before the network attends to them."""


class Text(NamedTuple):
    """A text as parts of a network attend to it."""

    tokens: Tensor
    """(B, 1 + T, width)"""
    mask: Tensor
    """bool (B, 1 + T): which of them are there. The first, which is learned and stands for nothing said, always is.

    Or float, from 0 to 1: how far each is, which weighs it in attention and in the mean.
    """


class TextTokens(nn.Module):
    """{"text": …, "text_mask": bool or float (B, T)} -> Text, once for all parts of a network, and what is added to its embedding.

    The text is float states (B, T, text_width) that an encoder has made, or int64 ids (B, T) below `text_vocab`, at most
    `text_length`, which are read here and learned with the rest. What is not there has no influence, whatever it holds.

    Sources: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, Saharia et al., 2022, section 2.3 and
    appendix D, for states of a frozen encoder, attended to and pooled into the embedding; High-Resolution Image Synthesis with
    Latent Diffusion Models, Rombach et al., 2022, section 3.3, for an encoder that is learned with the rest.
    """

    def __init__(self, width: int, embedding: int, text_width: int, text_vocab: int, text_length: int) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.randn(width))
        self.enter: nn.Module
        if text_vocab:
            self.enter = nn.Embedding(text_vocab, width)
            self.places = nn.Parameter(0.1 * torch.randn(text_length, width))
        else:
            self.enter = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width))
        self.blocks = nn.ModuleList(TextBlock(width) for _ in range(DEPTH if text_vocab else 0))
        self.norm = nn.LayerNorm(width)
        self.pool = zeroed(nn.Linear(width, embedding))

    def forward(self, cond: Mapping[str, Tensor] | None, count: int) -> Text:
        """The Text of `count` samples; without a condition, of nothing said."""
        tokens = self.nothing.expand(count, 1, -1)
        text = Text(tokens, torch.ones(count, 1, dtype=torch.bool, device=tokens.device))
        if cond is not None:
            tokens = torch.cat([tokens, self._entered(cond[TEXT], cond[MASK])], dim=1)
            text = Text(tokens, torch.cat([text.mask, cond[MASK]], dim=1))
        for block in self.blocks:
            text = block(text)
        return text._replace(tokens=self.norm(text.tokens))

    def _entered(self, given: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, T, width)."""
        out: Tensor = self.enter(given.masked_fill(mask == 0 if given.ndim == 2 else mask[..., None] == 0, 0))
        return out + self.places[: out.shape[1]] if isinstance(self.enter, nn.Embedding) else out

    def pooled(self, text: Text) -> Tensor:
        """What is added to the embedding (B, embedding): of the mean over the tokens that are there; at first nothing."""
        share = text.mask / text.mask.sum(1, keepdim=True)
        out: Tensor = self.pool((share[..., None] * text.tokens).sum(1))
        return out


class TextBlock(nn.Module):
    """A Text's tokens attend to one another, then an MLP on each: Text -> Text. At first it is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = TextAttention(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), zeroed(nn.Linear(4 * width, width)))

    def forward(self, text: Text) -> Text:
        tokens = self.attention(text.tokens, text)
        return text._replace(tokens=tokens + self.mlp(self.norm(tokens)))


class TextAttention(nn.Module):
    """x (B, N, width) and, added, what each of its tokens finds in a Text of this width; at first nothing.

    Source: Attention Is All You Need, Vaswani et al., 2017, section 3.2.3: queries from here, keys and values from there.
    """

    def __init__(self, width: int, text: int, head_width: int = 64) -> None:
        super().__init__()
        self.heads = max(heads for heads in range(1, max(1, width // head_width) + 1) if width % heads == 0)
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text, 2 * width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, text: Text) -> Tensor:
        q, k, v = map(self._headed, (self.q(self.norm(x)), *self.kv(text.tokens).chunk(2, dim=2)))
        found = ops.attention(q, k, v, text.mask[:, None, None]).transpose(1, 2).flatten(2)
        return ops.linear_added(x, None, found, self.out.weight, self.out.bias)

    def _headed(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


def text_tokens(
    width: int, embedding: int, text_width: int = 0, text_vocab: int = 0, text_length: int = 0
) -> TextTokens | None:
    """The TextTokens of a network that a condition tells of text; None of one that it does not."""
    if not text_width and not text_vocab:
        return None
    return TextTokens(width, embedding, text_width, text_vocab, text_length)
