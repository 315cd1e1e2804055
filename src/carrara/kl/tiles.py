"""Large pictures part by part, in bounded memory: overlapping tiles, blended where they meet.

A network whose norms are of single places makes of a tile what it makes of the whole picture, but within `lost` places of the
tile's cut edges, which see zeros where the picture goes on. Those are given no weight while the overlap is wider than twice as
much: then the result is the whole's, to rounding. With a narrower overlap they are blended away as far as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError


@dataclass(frozen=True)
class Tiles:
    """How a grid of places is cut: squares of `side` places, each `overlap` over the next; `lost` see above."""

    side: int
    overlap: int
    lost: int

    def __post_init__(self) -> None:
        if not 0 < self.overlap < self.side:
            raise InputError(
                f"tiles of {self.side} places with an overlap of {self.overlap} cannot be laid; give an overlap of 1 or "
                "more, and a larger side"
            )

    def over(self, length: int) -> list[range]:
        """The tiles along one side of so many places: all of one size, the last one moved back to end with the picture."""
        size = min(self.side, length)
        starts = [*range(0, length - size, self.side - self.overlap), length - size]
        return [range(start, start + size) for start in starts]

    def weights(self, tile: range, length: int, each: int) -> Tensor:
        """What a tile's numbers count beside its neighbours', `each` of them a place: from 0 near a cut edge up to 1."""
        lost = min(self.lost, (self.overlap - 1) // 2)
        rise = (self.overlap - 2 * lost) * each
        number = torch.arange(len(tile) * each) + 0.5 - lost * each
        from_start = torch.full_like(number, rise) if tile.start == 0 else number
        from_end = torch.full_like(number, rise) if tile.stop == length else number.flip(0)
        return (torch.minimum(from_start, from_end) / rise).clamp(0, 1)


def tiled(part: Callable[[Tensor], Tensor], x: Tensor, tiles: Tiles, given: int, made: int) -> Tensor:
    """part(x) for x (B, C, H, W), tile by tile: x has `given` numbers a place along each side, what `part` makes of it `made`.

    Only what is made, its weights and one tile are in memory at a time.
    """
    height, width = x.shape[-2] // given, x.shape[-1] // given
    found = torch.zeros(())
    total = torch.zeros(height * made, width * made)
    for rows, columns in _cut(tiles, height, width):
        y = part(x[..., _span(rows, given), _span(columns, given)]).cpu()
        weight = tiles.weights(rows, height, made)[:, None] * tiles.weights(columns, width, made)
        found = found if found.ndim else torch.zeros(*y.shape[:2], *total.shape)
        found[..., _span(rows, made), _span(columns, made)] += y * weight
        total[_span(rows, made), _span(columns, made)] += weight
    return found.div_(total).to(x.device)


def _cut(tiles: Tiles, height: int, width: int) -> Iterator[tuple[range, range]]:
    return ((rows, columns) for rows in tiles.over(height) for columns in tiles.over(width))


def _span(places: range, each: int) -> slice:
    return slice(places.start * each, places.stop * each)
