"""Pictures' words that are read diagonal by diagonal: what stands around a place and was read before it or with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.memory import Kept

EVERYWHERE = [(down, right) for down, right in product((-1, 0, 1), repeat=2) if (down, right) != (0, 0)]
"""(down, right): the eight places around one."""
READ = [(down, right) for down, right in product((-1, 0, 1), repeat=2) if down + right <= 0]
"""Those of a place that stand on its own diagonal or on one before it, itself among them."""


class Around(nn.Module):
    """To each place the sum of those of READ, each weighed number by number: (B, S + L, width) -> the same.

    The L places are those of a grid (h, w) in `order` (L,), by diagonals; beyond its edges is 0. The S = `before` first stand on no
    grid, and pass. Untrained it is the identity. With what is kept of places that were read, x are those that follow, of whole
    diagonals: (B, m, width).

    Source: as `carrara.networks.nearby.Nearby`, masked as in Pixel Recurrent Neural Networks, van den Oord et al., 2016.
    """

    order: Tensor
    lines: Tensor
    """(L,): which places of that order make the grid, line by line."""
    around: Tensor
    """(L, T): where each of READ stands in that order, after the source, from each place in it; S + L where there is none."""

    def __init__(self, width: int, grid: Sequence[int], order: Tensor, before: int = 0) -> None:
        super().__init__()
        self.grid, self.before = tuple(grid), before
        self.weights = nn.Embedding(len(READ), width)
        nn.init.zeros_(self.weights.weight)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("lines", order.argsort(), persistent=False)
        found = beside(grid, READ)[:, order][:, :, order]
        none = before + len(order)
        self.register_buffer("around", torch.where(found.any(2), before + found.argmax(2), none).T, persistent=False)

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        return x + (self.convolved(x[:, self.before :]) if kept is None else self.following(x, kept))

    def convolved(self, x: Tensor) -> Tensor:
        """What is added to the places x (B, L, width); with zeros before it for those on no grid."""
        width = x.shape[2]
        # Selected, and not x[:, lines], whose gradient takes longer on a CPU.
        picture = x.index_select(1, self.lines).transpose(1, 2).reshape(len(x), width, *self.grid)
        taps = x.new_zeros(9, width).index_put((_places(READ),), self.weights.weight.to(x.dtype))
        added = F.conv2d(picture, taps.T.reshape(width, 1, 3, 3), padding=1, groups=width)
        return F.pad(added.flatten(2).transpose(1, 2).index_select(1, self.order), (0, 0, self.before, 0))

    def following(self, x: Tensor, kept: Kept) -> Tensor:
        """What is added to the places x (B, m, width) that follow those that are kept."""
        first = max(0, kept.first - self.before)
        around = kept.along(x)[:, self.around[first : kept.last - self.before]]
        added = (around * self.weights.weight.to(x.dtype)).sum(2)
        return added if kept.first else F.pad(added, (0, 0, self.before, 0))


def beside(grid: Sequence[int], steps: Sequence[tuple[int, int]]) -> Tensor:
    """(T, L, L) float32: 1 where place j of a grid (h, w), line by line, stands one of T steps (down, right) from place i."""
    h, w = grid
    found = torch.zeros(len(steps), h * w, h * w)
    for (k, step), row, column in product(enumerate(steps), range(h), range(w)):
        down, right = row + step[0], column + step[1]
        if 0 <= down < h and 0 <= right < w:
            found[k, row * w + column, down * w + right] = 1
    return found


def _places(steps: Sequence[tuple[int, int]]) -> Tensor:
    """Where they stand in a window of 3 × 3, line by line."""
    return torch.tensor([3 * (down + 1) + right + 1 for down, right in steps])
