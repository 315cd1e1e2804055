"""What stands beside a place, mixed into it: that near things belong together need not be learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from carrara.errors import InputError

WIDE = 3
"""Places that are mixed along each side: one before, itself and one after."""


class Nearby(nn.Module):
    """To each place of a grid the sum of those around it and itself, each weighed number by number: (B, S + L, width) -> the same.

    A depthwise convolution. The grid is a line of any length L, or `grid` (h, w), whose L = h · w places follow each other line by
    line; beyond its edges is 0. The S = `before` first places stand on no grid, and pass. Untrained it is the identity.

    Source: Conditional Positional Encodings for Vision Transformers, Chu et al., 2021, without its bias and before every block.
    """

    def __init__(self, width: int, grid: Sequence[int] = (), before: int = 0) -> None:
        super().__init__()
        self.grid, self.before = tuple(grid), before
        # An embedding, for it is no matrix to be made orthogonal: nothing is summed over numbers.
        self.weights = nn.Embedding(WIDE ** max(1, len(self.grid)), width)
        nn.init.zeros_(self.weights.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Raises InputError where the places do not fill the grid."""
        places = x[:, self.before :].transpose(1, 2)
        taps = self.weights.weight.T[:, None].to(x.dtype)
        if self.grid:
            self.check(places.shape[2])
            places = places.reshape(*places.shape[:2], *self.grid)
            taps = taps.reshape(-1, 1, *(WIDE for _ in self.grid))
        convolved = (F.conv2d if self.grid else F.conv1d)(places, taps, padding=WIDE // 2, groups=len(taps))
        return x + F.pad(convolved.flatten(2).transpose(1, 2), (0, 0, self.before, 0))

    def check(self, count: int) -> None:
        """Raises InputError for another number of places than the grid has."""
        if count != math.prod(self.grid):
            raise InputError(
                f"there are {count} tokens, and the network was made for {' × '.join(map(str, self.grid))} of them"
            )
