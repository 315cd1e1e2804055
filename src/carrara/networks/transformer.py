"""A transformer whose every block is told something: tokens (B, N, C) and a modulation -> (B, N, C). It knows of no pictures."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks import ops
from carrara.networks.blocks import zeroed
from carrara.networks.recompute import Recomputable

PER_BLOCK = 6
"""Vectors that a block is told: shift, scale and gate for attention, and the same for the MLP."""


class Transformer(nn.Module):
    """`depth` blocks and a last norm, all told by one embedding: (B, N, width), (B, embedding) -> (B, N, width).

    One product makes what all blocks are told, before the first of them. As the embedding may be narrower than the tokens, this
    costs 6 · embedding / width of a block's 12 · width² parameters, in place of half as many again.

    Source: adaLN-Zero, Scalable Diffusion Models with Transformers, Peebles & Xie, 2023, section 3.2.
    """

    def __init__(
        self, width: int, depth: int, heads: int, embedding: int, mlp_ratio: float = 4.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.modulate = zeroed(nn.Linear(embedding, (PER_BLOCK * depth + 2) * width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        told = self.modulate(F.silu(embedding)).unflatten(1, (-1, x.shape[-1])).unbind(1)
        for i, block in enumerate(self.blocks):
            x = block(x, *told[PER_BLOCK * i : PER_BLOCK * (i + 1)])
        shift, scale = told[-2:]
        return ops.layer_norm(x, scale, shift)


class Block(Recomputable):
    """Attention, then an MLP, each on normed tokens that are scaled and shifted, each added through a gate.

    x (B, N, width) and six vectors (B, width) -> (B, N, width). With gates of zero it is the identity.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = MLP(width, round(mlp_ratio * width), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, shift1: Tensor, scale1: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor
    ) -> Tensor:
        x = self.attended(x, gate1, ops.layer_norm(x, scale1, shift1))
        out = self.mlp.leave
        return ops.linear_added(x, gate2, self.mlp.hidden(ops.layer_norm(x, scale2, shift2)), out.weight, out.bias)

    def attended(self, x: Tensor, gate: Tensor, normed: Tensor) -> Tensor:
        """x + gate · attention."""
        if self.training and self.dropout.p > 0:
            return ops.gated(x, gate, self.dropout(self.attention(normed)))
        out = self.attention.out
        return ops.linear_added(x, gate, self.attention.mixed(normed), out.weight, out.bias)


class Attention(nn.Module):
    """Self-attention over the tokens: (B, N, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.mixed(x))
        return out

    def mixed(self, x: Tensor) -> Tensor:
        """What the heads give, before `out`."""
        return ops.linear_attention(x, self.qkv.weight, self.qkv.bias, self.heads)


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
