"""A transformer over tokens: logits of every position, from all positions or from those before it alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.errors import InputError
from carrara.networks.blocks import zeroed
from carrara.networks.memory import Memory
from carrara.networks.nearby import Nearby
from carrara.networks.options import require
from carrara.networks.transformer import Order
from carrara.networks.vocabulary import Vocabulary


class TokenTransformer(Vocabulary):
    """Logits (B, L, vocab) from tokens x (B, L), level (B,) in [0, 1] and {"label": (B,), "source": (B, S)}, or less, or None.

    x holds ids from 0 to `vocab`, which is the mask: a token that is not known. L is at most `length`; what else comes from the
    data see `Sequences`. The source stands before the tokens, and all of them see it.

    causal: the output at position i is made of the tokens before i alone. They are moved by one for that, and a mask, before which
    nothing is known, is put before the first. `following` reads them one after the other.

    The level is told where `told_level` is set. Without it the output is a function of x and the condition alone.
    """

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
        neighbours: int = 0,
        placed: bool = False,
        factored: bool = False,
        nearby: bool = False,
        levels: tuple[int, ...] = (),
        grid: tuple[int, ...] = (),
    ) -> None:
        """`width`: numbers a token, a multiple of `head_width`, those of one head of attention, which is even. `depth`: blocks.
        `mlp_ratio`: how much wider than a token each block's MLP is. `tied`: whether a token's logit is read off with the vector
        that the token is embedded by. `neighbours`: how many tokens on each side are read into a token's vector, each weighed
        number by number; only where the network is not causal. `placed`: whether each place has a vector of its own, learned.
        Without it places differ by their distances alone, as they should in a text that begins anywhere; with it those of a
        picture do, of which nothing is seen yet. `factored`: whether words that are made of parts, of which part d has `levels[d]`
        levels, share what is learnt of those, as they are read and as they are said. `nearby`: whether each block first mixes into
        every place those around it, see `carrara.networks.nearby`; only where the network is not causal. `levels`, and the `grid`
        (h, w) of a picture's words, come from the data; () is a text's line.
        """
        require(
            ("vocab", vocab, vocab >= 2, "at least 2 tokens that differ"),
            ("neighbours", neighbours, neighbours >= 0, "at least 0"),
            ("neighbours", neighbours, not (causal and neighbours), "0 where network.causal is true"),
            ("nearby", nearby, not (causal and nearby), "false where network.causal is true"),
            ("factored", factored, not (tied and factored), "false where network.tied is true"),
        )
        super().__init__(length, classes, source_vocab, source_length, width, head_width, told_level)
        self.vocab, self.causal = vocab, causal
        self.token = nn.Embedding(vocab + 1, width)
        self.body = self.blocks(
            depth, mlp_ratio, dropout, partial(Nearby, width, grid, source_length) if nearby else None
        )
        self.tied, self.leave = tied, zeroed(nn.Linear(width, width if tied else vocab))
        self.begin(self.token, self.source)
        self.beside = nn.Embedding(2 * neighbours, width) if neighbours else None
        self.place = nn.Embedding(length + causal, width) if placed else None
        self.share(levels, factored)
        self.begin(self.place, self.heard.vectors if self.heard else None)

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        self.check_length(x)
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
        begun = 0 if memory is None else memory.count - self.source_length
        tokens = self.embedded(x, self.sources(cond, len(x)) if memory is None else None, begun)
        out, memory = self.going_on(tokens, cond, memory, self.turn)
        return self.logits(out[:, out.shape[1] - x.shape[1] :]), memory

    def embedded(self, x: Tensor, source: Tensor | None, first: int = 0) -> Tensor:
        """The vectors (B, S + m, width) of the source, where there is one, and of the tokens x (B, m), which stand from `first` on.

        Neighbours are mixed in.
        """
        return self.after(source, self.at_places(self.among_neighbours(self.read(x)), first))
