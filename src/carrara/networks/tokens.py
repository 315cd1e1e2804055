"""A transformer over tokens: logits of every position, from all positions or from those before it alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.errors import InputError
from carrara.native.common import computed_in
from carrara.networks import ops
from carrara.networks.blocks import Fourier, zeroed
from carrara.networks.memory import Memory
from carrara.networks.options import require
from carrara.networks.transformer import Order, Transformer

BASE = 10_000.0
"""Radians: the slowest pair of a head is turned by about 1 / BASE a token."""
SMALL = 0.02
"""The standard deviation that vectors of tokens begin with: gates begin as 0, and what comes through is soon heard."""


class TokenTransformer(nn.Module):
    """Logits (B, L, vocab) from tokens x (B, L), level (B,) in [0, 1] and {"label": (B,), "source": (B, S)}, or less, or None.

    x holds ids from 0 to `vocab`, which is the mask: a token that is not known. L is at most `length`. `classes` (0: no labels;
    label `classes` is the null), `source_vocab` and `source_length` (0: no source; id `source_vocab` is its null and fills what is
    shorter) come from the data. The source stands before the tokens, and all of them see it.

    causal: the output at position i is made of the tokens before i alone. They are moved by one for that, and a mask, before which
    nothing is known, is put before the first. `following` reads them one after the other.

    The level is told where `told_level` is set. Without it the output is a function of x and the condition alone.

    Source: the blocks are DiT's (Peebles & Xie, 2023), with RMS norm (Zhang & Sennrich, 2019) and rotary places (RoFormer, Su et
    al., 2021).
    """

    turn: Tensor

    def __init__(
        self,
        vocab: int,
        length: int,
        classes: int = 0,
        source_vocab: int = 0,
        source_length: int = 0,
        width: int = 256,
        depth: int = 8,
        head_width: int = 64,
        causal: bool = False,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        told_level: bool = False,
        tied: bool = False,
    ) -> None:
        """`width`: numbers a token, a multiple of `head_width`, those of one head of attention, which is even. `depth`: blocks.
        `mlp_ratio`: how much wider than a token each block's MLP is. `tied`: whether a token's logit is read off with the vector
        that the token is embedded by.
        """
        super().__init__()
        _check(vocab, length, source_vocab, source_length, width, depth, head_width, mlp_ratio, dropout)
        self.vocab, self.length, self.classes, self.causal = vocab, length, classes, causal
        self.source_vocab, self.source_length, self.heads = source_vocab, source_length, width // head_width
        emb = max(64, width // 4) if classes or told_level else 0
        self.level = (
            nn.Sequential(Fourier(2 * emb), nn.Linear(2 * emb, emb), nn.SiLU(), nn.Linear(emb, emb))
            if told_level
            else None
        )
        self.label = nn.Embedding(classes + 1, emb) if classes else None
        self.source = nn.Embedding(source_vocab + 1, width) if source_vocab else None
        self.token = nn.Embedding(vocab + 1, width)
        self.body = Transformer(width, depth, self.heads, emb, mlp_ratio, dropout, ops.rms_norm)
        self.tied, self.leave = tied, zeroed(nn.Linear(width, width if tied else vocab))
        for table in (self.token, self.source):
            if table is not None:
                nn.init.normal_(table.weight, std=SMALL)
        self.register_buffer("turn", places(source_length + length + 1, head_width), persistent=False)

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        if x.shape[1] > self.length:
            raise InputError(f"there are {x.shape[1]} tokens, and the network was made for {self.length} at most")
        read = F.pad(x, (1, 0), value=self.vocab)[:, :-1] if self.causal else x
        tokens = self.embedded(read, self.sources(cond, len(x)))
        order = Order(self.turn[: tokens.shape[1]], self.source_length if self.causal else None)
        return self.logits(self.body(tokens, self.told(level, cond), order)[:, self.source_length :])

    @torch.no_grad()
    def following(
        self, x: Tensor, cond: Mapping[str, Tensor] | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """(logits (B, m, vocab) of what follows each of the tokens x (B, m), the memory with them in it), at level 0.

        x follows what `memory` holds. With none the source is read first, and x begins with the mask, which stands for the
        beginning. Raises InputError where the network is not causal, and for more than `length` tokens after the beginning.
        """
        if not self.causal:
            raise InputError(
                "a network that sees both sides cannot read on from what it has read; set network.causal to true"
            )
        tokens = self.embedded(x, self.sources(cond, len(x)) if memory is None else None)
        if memory is None:
            memory = Memory.empty(len(self.body.blocks), len(x), self.heads, len(self.turn), tokens)
        first, memory = memory.count, memory.going_on(len(x), tokens.shape[1])
        order = Order(self.turn[first : memory.count], self.source_length)
        out = self.body(tokens, self.told(torch.zeros(len(x), device=x.device), cond), order, memory)
        return self.logits(out[:, out.shape[1] - x.shape[1] :]), memory

    def embedded(self, x: Tensor, source: Tensor | None) -> Tensor:
        """The vectors of the source, where there is one, and then of the tokens x (B, m): (B, S + m, width)."""
        tokens = looked_up(self.token, x, "token")
        if source is not None and self.source is not None:
            tokens = torch.cat([looked_up(self.source, source, "token of the source"), tokens], 1)
        return tokens.to(computed_in(tokens))

    def sources(self, cond: Mapping[str, Tensor] | None, count: int) -> Tensor | None:
        """The source (B, source_length), filled up with its null; None where the network knows none."""
        if self.source is None:
            return None
        given = None if cond is None else cond.get("source")
        if given is None:
            return torch.full((count, self.source_length), self.source_vocab, device=self.turn.device)
        if given.shape[1] > self.source_length:
            raise InputError(
                f"the source has {given.shape[1]} tokens, and the network was made for {self.source_length} at most"
            )
        return F.pad(given, (0, self.source_length - given.shape[1]), value=self.source_vocab)

    def told(self, level: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor | None:
        """The embedding (B, width / 4, at least 64) of level and label; None where the network is told neither."""
        emb = None if self.level is None else self.level(level)
        if self.label is None:
            return emb
        given = None if cond is None else cond.get("label")
        if given is None:
            given = torch.full((len(level),), self.classes, device=level.device)
        label = looked_up(self.label, given, "label")
        return label if emb is None else emb + label

    def logits(self, x: Tensor) -> Tensor:
        """(…, vocab) from (…, width): all zero, and each token as probable as any other, where nothing is learnt."""
        out: Tensor = self.leave(x)
        return F.linear(out, self.token.weight[:-1] / (SMALL * x.shape[-1] ** 0.5)) if self.tied else out


def looked_up(table: nn.Embedding, ids: Tensor, what: str) -> Tensor:
    """The rows (…, width) of these ids; the last row stands for none. Raises InputError, on a CPU, for an id that has no row."""
    try:
        rows: Tensor = table(ids)
        return rows
    except IndexError as error:
        wrong, most = ids[(ids < 0) | (ids >= table.num_embeddings)], table.num_embeddings - 1
        raise InputError(
            f"the id of a {what} is {int(wrong[0])}; ids go from 0 to {most}, which stands for none"
        ) from error


def places(count: int, head_width: int) -> Tensor:
    """What q and k of each of `count` places are turned by, (count, 2, head_width) float32, see `carrara.networks.ops.turned`.

    Pair j is turned by place · BASE^(-2j / head_width) radians, so that a score depends on the difference of two places alone.

    Source: RoFormer: Enhanced Transformer with Rotary Position Embedding, Su et al., 2021, section 3.2.
    """
    speeds = BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * speeds
    cosines, sines = angle.cos(), angle.sin()
    pairs = [torch.stack([cosines, cosines], 2), torch.stack([-sines, sines], 2)]
    return torch.stack(pairs, 1).flatten(2).float()


def _check(
    vocab: int, length: int, source_vocab: int, source_length: int, width: int, depth: int, head_width: int,
    mlp_ratio: float, dropout: float,
) -> None:  # fmt: skip
    """Raises InputError for options that make no network."""
    require(
        ("vocab", vocab, vocab >= 2, "at least 2 tokens that differ"),
        ("length", length, length >= 1, "at least 1 token"),
        ("source_vocab", source_vocab, source_vocab >= 0, "at least 0, which is no source"),
        ("source_length", source_length, source_length >= 0, "at least 0, which is no source"),
        (
            "source_length",
            source_length,
            bool(source_vocab) == bool(source_length),
            "0 where there is no source, and only there",
        ),
        (
            "head_width",
            head_width,
            head_width >= 2 and head_width % 2 == 0,
            "even, at least 2: places turn pairs of numbers",
        ),
        (
            "width",
            width,
            width >= 1 and width % max(1, head_width) == 0,
            f"a multiple of network.head_width, {head_width}",
        ),
        ("depth", depth, depth >= 1, "at least 1 block"),
        ("mlp_ratio", mlp_ratio, mlp_ratio * width >= 1, "positive, and wide enough for one number"),
        ("dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1"),
    )
