"""A transformer over sequences of vectors: what it says at every position is made of all of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from carrara.networks.blocks import zeroed
from carrara.networks.options import require
from carrara.networks.sequences import SMALL, Sequences
from carrara.networks.transformer import Order


class VectorTransformer(Sequences):
    """Raw output (B, L, channels) from vectors x of that shape, level (B,) in [0, 1] and {"label": (B,), "source": (B, S)}, or
    less, or None.

    L is at most `length`; what else comes from the data see `Sequences`. Every position sees all others, and the source.
    """

    def __init__(
        self,
        channels: int,
        length: int,
        classes: int = 0,
        source_vocab: int = 0,
        source_length: int = 0,
        width: int = 256,
        depth: int = 8,
        head_width: int = 64,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        neighbours: int = 0,
        placed: bool = False,
    ) -> None:
        """`channels`: numbers a vector. The other options are those of `carrara.networks.tokens.TokenTransformer`."""
        require(
            ("channels", channels, channels >= 1, "at least 1 number a vector"),
            ("neighbours", neighbours, neighbours >= 0, "at least 0"),
        )
        super().__init__(length, classes, source_vocab, source_length, width, head_width, told_level=True)
        self.enter = nn.Linear(channels, width)
        self.body = self.blocks(depth, mlp_ratio, dropout)
        self.leave = zeroed(nn.Linear(width, channels))
        self.begin(self.source)
        nn.init.normal_(self.enter.weight, std=SMALL / channels**0.5)
        nn.init.zeros_(self.enter.bias)
        self.beside = nn.Embedding(2 * neighbours, width) if neighbours else None
        self.place = nn.Embedding(length, width) if placed else None
        self.begin(self.place)

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        self.check_length(x)
        read = self.after(self.sources(cond, len(x)), self.at_places(self.among_neighbours(self.enter(x))))
        out = self.body(read, self.told(level, cond), Order(self.turn[: read.shape[1]]))
        said: Tensor = self.leave(out[:, self.source_length :])
        return said
