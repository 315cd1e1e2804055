"""What a sampler yields, and the pairs of times it walks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from carrara.beliefs import Shown
from carrara.errors import InputError
from carrara.processes import NUMBERS


@dataclass(frozen=True, slots=True)
class Step:
    """One step from t to s < t, scalars: x at s, and the belief about x0 that was held at t."""

    index: int
    t: Tensor
    s: Tensor
    x: Tensor
    belief: Shown


def pairs(times: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(index, t, s) for each step of the grid: its neighbours, scalars of float64."""
    for index, (t, s) in enumerate(pairwise(times)):
        yield index, t, s


def of(made_of: str, process: Any, *others: str) -> Any:
    """The process, if its x0 is made of this, such as NUMBERS, or of one of `others`. Raises InputError where it is not."""
    found = getattr(process, "made_of", NUMBERS)
    if found not in (made_of, *others):
        raise InputError(
            f"this sampler walks {' and '.join((made_of, *others))}, and the process {type(process).__name__} is one of {found}; "
            f"choose one of carrara.samplers.over({found!r})"
        )
    return process
