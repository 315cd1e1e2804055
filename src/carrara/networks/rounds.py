"""A transformer over the words of a picture that show in rounds, of which each is made of those before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from carrara.errors import InputError
from carrara.networks.around import EVERYWHERE, Around, beside
from carrara.networks.blocks import zeroed
from carrara.networks.memory import Memory
from carrara.networks.options import require
from carrara.networks.transformer import Order
from carrara.networks.vocabulary import Vocabulary


class RoundTransformer(Vocabulary):
    """Logits (B, L, vocab) from words x (B, L) of a picture and {"label": (B,), "source": (B, S)}, or less, or None.

    x holds ids from 0 to `vocab`, which is the mask. The L = h · w words of a grid show diagonal by diagonal, from the corner above
    on the left to the opposite one, in `rounds`. What is said of a word is made of those of earlier rounds alone: its place reads
    [MASK], which place it is, and those words near it that show before it; and it attends to the places that come before it,
    round by round. So one pass over a whole picture says what every round is believed to be when its turn comes, and each place is
    read only once: see `reading`. The level is not looked at.

    Raises InputError for words that fill no grid.

    Source: carrara's; that what hangs on each other little may be made together: Parallel Multiscale Autoregressive Density
    Estimation, Reed et al., 2017; rows at a time, each a little later than the one above: ZipAR, He et al., 2024.
    """

    beside: nn.Embedding
    place: nn.Embedding
    earlier: Tensor
    """(T, L, L): 1 where word j stands in one of T directions from i, and shows before it. Rows i are in the order of rounds."""
    order: Tensor
    """(L,): the places, as they are read."""
    lines: Tensor
    """(L,): where each place stands in it, line by line."""
    turns: Tensor
    """What q and k of the source, and then of each place in that order, are turned by."""

    def __init__(
        self,
        vocab: int,
        length: int,
        grid: tuple[int, ...],
        classes: int = 0,
        source_vocab: int = 0,
        source_length: int = 0,
        width: int = 256,
        depth: int = 8,
        head_width: int = 64,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        rounds: int = 0,
        factored: bool = False,
        levels: tuple[int, ...] = (),
    ) -> None:
        """`rounds`: how many; diagonals that follow each other are put together, the fewest words first. 0: one for each diagonal.

        The other options are those of `carrara.networks.tokens.TokenTransformer`.
        """
        require(
            ("vocab", vocab, vocab >= 2, "at least 2 tokens that differ"),
            ("grid", grid, len(grid) == 2 and math.prod(grid) == length, f"(h, w) of a picture's {length} words"),
            (
                "rounds",
                rounds,
                0 <= rounds < sum(grid),
                f"0, one for each diagonal, or up to {sum(grid) - 1}, those there are",
            ),
        )
        super().__init__(length, classes, source_vocab, source_length, width, head_width, told_level=False)
        self.vocab, self.tied, self.plan = vocab, False, diagonals(grid, rounds)
        order, shown = torch.tensor(self.plan).argsort(stable=True), _shown_beside(grid, self.plan)
        self.token = nn.Embedding(vocab + 1, width)
        self.body = self.blocks(depth, mlp_ratio, dropout, partial(Around, width, grid, order, source_length))
        self.leave = zeroed(nn.Linear(width, vocab))
        self.place, self.beside = nn.Embedding(length, width), nn.Embedding(len(shown), width)
        self.share(levels, factored)
        self.begin(self.token, self.source, self.place, self.heard.vectors if self.heard else None)
        nn.init.normal_(self.beside.weight, std=max(1, len(shown)) ** -0.5)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("lines", order.argsort(), persistent=False)
        self.register_buffer("earlier", shown[:, order], persistent=False)
        self.register_buffer(
            "turns", torch.cat([self.turn[:source_length], self.turn[source_length + order]]), persistent=False
        )

    def forward(self, x: Tensor, level: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        read = self.after(self.sources(cond, len(x)), self.standing(x, 0, self.length))
        out = self.body(read, self.told(level, cond), Order(self.turns, self.source_length))
        return self.logits(out.index_select(1, self.source_length + self.lines))

    @torch.no_grad()
    def reading(
        self, x: Tensor, cond: Mapping[str, Tensor] | None = None, memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """(logits (B, m, vocab) of the m places of the next round, the memory with them in it), of x (B, L), see
        `carrara.denoisers.Reading`. With no memory that is the first round, and the source is read before it. Raises InputError
        where all were read.
        """
        source = self.sources(cond, len(x)) if memory is None else None
        first = 0 if memory is None else memory.count - self.source_length
        if first == self.length:
            raise InputError(f"all {max(self.plan) + 1} rounds were read, and none follows")
        last = first + self.plan.count(self.plan[self.order[first]])
        tokens = self.after(source, self.standing(x, first, last))
        out, memory = self.going_on(tokens, cond, memory, self.turns, vectors=True)
        return self.logits(out[:, first - last :]), memory

    def standing(self, x: Tensor, first: int, last: int) -> Tensor:
        """The vectors (B, last − first, width) that those places begin with, counted in the order of rounds."""
        if x.shape[1] != self.length:
            raise InputError(f"there are {x.shape[1]} words, and the network was made for a picture's {self.length}")
        around = torch.einsum("tij,bjc->btic", self.earlier[:, first:last].to(self.token.weight.dtype), self.read(x))
        mask, places = self.token.weight[self.vocab], self.place.weight[self.order[first:last]]
        return mask + places + (around * self.beside.weight[:, None]).sum(1)


def diagonals(grid: Sequence[int], rounds: int = 0) -> list[int]:
    """The round, from 0, of each place of a grid (h, w), line by line: its diagonal's, h + w − 1 of them where `rounds` is 0.

    Where there are more than `rounds`, those two neighbours are put together that have the fewest places, the first such.
    """
    h, w = grid
    groups = [[d] for d in range(h + w - 1)]
    size = [min(d + 1, h, w, h + w - 1 - d) for d in range(h + w - 1)]
    while 0 < rounds < len(groups):
        least = min(range(len(groups) - 1), key=lambda i: sum(size[d] for d in groups[i] + groups[i + 1]))
        groups[least : least + 2] = [groups[least] + groups[least + 1]]
    found = {d: index for index, group in enumerate(groups) for d in group}
    return [found[row + column] for row, column in product(range(h), range(w))]


def _shown_beside(grid: Sequence[int], rounds: Sequence[int]) -> Tensor:
    """(T, L, L): 1 where j stands in one of T directions from i, see `beside`, and shows in an earlier round.

    The directions lead to a neighbour. For each word that no later round would read there is one more, the shortest from there.
    """
    turn, steps = torch.tensor(rounds), list(EVERYWHERE)
    earlier = turn[:, None] > turn
    shown = beside(grid, steps) * earlier
    for word in range(len(rounds)):
        if earlier[:, word].any() and not shown[:, :, word].any():
            steps.append(_shortest(grid, word, earlier[:, word]))
            shown = beside(grid, steps) * earlier
    return shown[shown.any(2).any(1)]


def _shortest(grid: Sequence[int], word: int, readers: Tensor) -> tuple[int, int]:
    """The shortest step (down, right) from one of the readers, bool (L,), to a word of the grid."""
    row, column = divmod(word, grid[1])
    steps = [(row - i // grid[1], column - i % grid[1]) for i in readers.nonzero()[:, 0].tolist()]
    return min(steps, key=lambda step: step[0] ** 2 + step[1] ** 2)
