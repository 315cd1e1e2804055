"""Beliefs: what a denoiser believes of x0 when it has seen x_t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from torch import Tensor


@runtime_checkable
class Belief(Protocol):
    """What every belief can do, whatever the process."""

    def extrapolate(self, start: Self, scale: float) -> Self:
        """start + scale · (self − start): guidance. Scale 0 gives `start`, 1 gives this belief, more goes beyond it."""
        ...

    def halves(self) -> tuple[Self, Self]:
        """The beliefs of the first and of the second half of the batch."""
        ...

    @property
    def preview(self) -> Tensor:
        """One x0 to show, of x_t's shape."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """The mean of x0, (B, *) float, and where it was learned the variance of x0 around it, of the same shape."""

    x0: Tensor
    variance: Tensor | None = None

    def extrapolate(self, start: Point, scale: float) -> Point:
        """The mean extrapolated; the variance is this belief's own, for spreads do not extrapolate."""
        return Point(start.x0 + scale * (self.x0 - start.x0), self.variance)

    def halves(self) -> tuple[Point, Point]:
        first, second = self.x0.chunk(2)
        if self.variance is None:
            return Point(first), Point(second)
        spreads = self.variance.chunk(2)
        return Point(first, spreads[0]), Point(second, spreads[1])

    @property
    def preview(self) -> Tensor:
        return self.x0
