"""A peer's network made as large as another: its widths narrowed until the number of parameters is that asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from statistics import pvariance

from carrara.errors import InputError

GRID = 32
"""Widths are multiples of this: the groups of diffusers' norms, and what a processor's registers hold."""
TOLERANCE = 0.05
"""The share by which the number of parameters may differ."""

Widths = tuple[int, ...]


def narrowed(recommended: Widths, target: int, count: Callable[[Widths], int]) -> Widths:
    """The widths, none above the recommended, that come within 5 % of `target` parameters as `count` tells them.

    Of several the one whose proportions are nearest to the recommended. Raises InputError where there is none.
    """
    for widths in sorted(candidates(recommended), key=lambda found: unlikeness(found, recommended)):
        if abs(count(widths) / target - 1) <= TOLERANCE:
            return widths
    raise InputError(
        f"no widths in steps of {GRID} up to {recommended} give {target:,} parameters within {TOLERANCE:.0%}; "
        f"the recommended have {count(recommended):,}"
    )


def candidates(recommended: Widths) -> Iterator[Widths]:
    """All widths on the grid up to the recommended that do not fall from one resolution to the next."""
    choices = [range(GRID, widest + 1, GRID) for widest in recommended]
    for widths in itertools.product(*choices):
        if all(a <= b for a, b in itertools.pairwise(widths)):
            yield widths


def unlikeness(widths: Widths, recommended: Widths) -> tuple[float, int]:
    """0 for widths that are all narrowed by one factor; of equals the widest comes first."""
    return round(pvariance([math.log(a / b) for a, b in zip(widths, recommended, strict=True)]), 9), -sum(widths)
