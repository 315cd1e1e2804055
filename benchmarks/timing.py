"""Times of several things that are to be compared: taken in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Rates of one thing over the rounds."""

    median: float
    least: float
    most: float
    rounds: int
    each: tuple[float, ...] = ()
    """Those of all rounds, in their order."""

    def scaled(self, factor: float) -> Spread:
        """The rates of `factor` things a call."""
        each = tuple(rate * factor for rate in self.each)
        return Spread(self.median * factor, self.least * factor, self.most * factor, self.rounds, each)

    def as_dict(self) -> dict[str, float]:
        """The four numbers, rounded to four digits."""
        return {name: float(f"{value:.4g}") for name, value in self._asdict().items() if name != "each"}


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    least_s: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, Spread]:
    """Calls a second of each, from `rounds` rounds in which each has its turn, after a call of each to warm up.

    A turn is as many calls as `least_s` seconds take, at least one; `before` is called with its name.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            before(name)
            found[name].append(rate(call, least_s, clock))
    return {name: spread(rates) for name, rates in found.items()}


def rate(call: Callable[[], Any], least_s: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Calls a second, over at least `least_s` seconds and one call."""
    start, count, now = clock(), 0, 0.0
    while count == 0 or now < least_s:
        call()
        count += 1
        now = clock() - start
    return count / now


def spread(rates: list[float]) -> Spread:
    """Median, least and most of the rounds."""
    return Spread(statistics.median(rates), min(rates), max(rates), len(rates), tuple(rates))
