"""A transformer whose every block is told something: tokens (B, N, C) and a modulation -> (B, N, C). It knows of no pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks import ops
from carrara.networks.blocks import zeroed
from carrara.networks.memory import Kept, Memory
from carrara.networks.recompute import Recomputable

PER_BLOCK = 6
"""Vectors that a block is told: shift, scale and gate for attention, and the same for the MLP."""

Norm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, N, C), scale, shift, each (B, C)) -> x normed, · (1 + scale) + shift: one of `carrara.networks.ops`."""


class Order(NamedTuple):
    """What attention is told of the order of the tokens: without anything, they have none."""

    turn: Tensor | None = None
    """By what each token's q and k are turned, (N, 2, D), see `carrara.networks.ops.turned`."""
    prefix: int | None = None
    """Who sees whom, see `carrara.networks.ops.self_attention`."""
    kept: Kept | None = None
    """What was read before these tokens, and where to keep what is read now."""
    seen: Tensor | None = None
    """Which of all that is kept each of these tokens sees, (N, all); None: everything."""


NONE = Order()


class Transformer(nn.Module):
    """`depth` blocks and a last norm, all told by one embedding: (B, N, width), (B, embedding) -> (B, N, width).

    One product makes what all blocks are told, before the first of them. As the embedding may be narrower than the tokens, this
    costs 6 · embedding / width of a block's 12 · width² parameters, in place of half as many again. Where the embedding is of
    width 0, what the blocks are told is learnt and always the same.

    Source: adaLN-Zero, Scalable Diffusion Models with Transformers, Peebles & Xie, 2023, section 3.2.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        embedding: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        norm: Norm = ops.layer_norm,
        first: Callable[[], nn.Module] | None = None,
    ) -> None:
        """`first`: makes what each block is preceded by, x -> x; where there is a memory (x, the block's part of it) -> x."""
        super().__init__()
        self.norm = norm
        self.first = nn.ModuleList(first() for _ in range(depth)) if first else None
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout, norm) for _ in range(depth))
        told = (PER_BLOCK * depth + 2) * width
        self.modulate = zeroed(nn.Linear(embedding, told)) if embedding else None
        if not embedding:
            self.told = nn.Parameter(torch.zeros(told))

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, order: Order | None = None, memory: Memory | None = None
    ) -> Tensor:
        """`memory`: where what was read before x stands, with room for x, which is put there."""
        told, order = self.vectors(x, embedding), order or NONE
        if memory is not None and x.shape[1] > 1:
            order = order._replace(seen=ops.seen(x.shape[1], memory.count, order.prefix or 0, x.device))
        for i, block in enumerate(self.blocks):
            known = order if memory is None else order._replace(kept=memory.of(i, x.shape[1]))
            if self.first is not None:
                x = self.first[i](x) if memory is None else self.first[i](x, known.kept)
            x = block(x, *told[PER_BLOCK * i : PER_BLOCK * (i + 1)], known)
        shift, scale = told[-2:]
        return self.norm(x, scale, shift)

    def vectors(self, x: Tensor, embedding: Tensor | None) -> tuple[Tensor, ...]:
        """What the blocks are told, and the last norm: 6 · depth + 2 vectors (B, width)."""
        if self.modulate is None:
            told = self.told.expand(x.shape[0], -1)
        else:
            assert embedding is not None, "a transformer that is told something needs an embedding"
            told = self.modulate(F.silu(embedding))
        return told.reshape(x.shape[0], -1, x.shape[-1]).unbind(1)


class Block(Recomputable):
    """Attention, then an MLP, each on normed tokens that are scaled and shifted, each added through a gate.

    x (B, N, width) and six vectors (B, width) -> (B, N, width). With gates of zero it is the identity.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0, norm: Norm = ops.layer_norm
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = Attention(width, heads)
        self.mlp = MLP(width, round(mlp_ratio * width), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        shift1: Tensor,
        scale1: Tensor,
        gate1: Tensor,
        shift2: Tensor,
        scale2: Tensor,
        gate2: Tensor,
        order: Order = NONE,
    ) -> Tensor:
        x = self.attended(x, gate1, self.norm(x, scale1, shift1), order)
        out = self.mlp.leave
        return ops.linear_added(x, gate2, self.mlp.hidden(self.norm(x, scale2, shift2)), out.weight, out.bias)

    def attended(self, x: Tensor, gate: Tensor, normed: Tensor, order: Order) -> Tensor:
        """x + gate · attention."""
        if self.training and self.dropout.p > 0:
            return ops.gated(x, gate, self.dropout(self.attention(normed, order)))
        out = self.attention.out
        return ops.linear_added(x, gate, self.attention.mixed(normed, order), out.weight, out.bias)


class Attention(nn.Module):
    """Self-attention over the tokens: (B, N, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, order: Order = NONE) -> Tensor:
        out: Tensor = self.out(self.mixed(x, order))
        return out

    def mixed(self, x: Tensor, order: Order = NONE) -> Tensor:
        """What the heads give, before `out`."""
        if order.kept is not None:
            return self.reading(x, order.turn, order.seen, order.kept)
        return ops.linear_attention(x, self.qkv.weight, self.qkv.bias, self.heads, order.turn, order.prefix)

    def reading(self, x: Tensor, turn: Tensor | None, seen: Tensor | None, kept: Kept) -> Tensor:
        """The same of tokens that follow those that are kept, and are kept then."""
        q, k, v = ops.split(self.qkv(x), self.heads)
        if turn is not None:
            q, k = ops.turned(torch.stack([q, k]), turn)
        keys, values = kept.added(k, v)
        return ops.attention_going_on(q, keys, values, seen).transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Two layers with SiLU between them, on each token: (B, N, width) -> the same."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.leave = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.leave(self.hidden(x))
        return out

    def hidden(self, x: Tensor) -> Tensor:
        """What is between the layers, (B, N, hidden)."""
        between: Tensor = self.dropout(ops.linear_silu(x, self.enter.weight, self.enter.bias))
        return between
