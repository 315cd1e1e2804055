"""What a sampler yields, and the pairs of times it walks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from carrara.beliefs import Belief


@dataclass(frozen=True, slots=True)
class Step:
    """One step from t to s < t: x at s, and the belief about x0 that was held at t."""

    index: int
    t: Tensor
    s: Tensor
    x: Tensor
    belief: Belief


def pairs(times: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(index, t, s) for each step of the grid: its neighbours, scalars of float64."""
    for index, (t, s) in enumerate(pairwise(times)):
        yield index, t, s
