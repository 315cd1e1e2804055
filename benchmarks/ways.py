"""Ways to sample, side by side: each is a model and what is asked of it; what they made, and how fast, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.timing import Spread, spread
from carrara.model import Model


class Way(NamedTuple):
    """A model, and what is asked of it."""

    model: str
    wishes: Mapping[str, Any]


class Made(NamedTuple):
    """What a way has made."""

    samples: Any
    per_s: Spread
    """Samples a second of each round."""


def made(
    models: Mapping[str, Model],
    ways: Mapping[str, Way],
    n: int,
    rounds: int,
    batch: int,
    asked: Callable[[range], Mapping[str, Any]] = lambda seeds: {},
) -> dict[str, Made]:
    """The first n samples of each way, seeds 0 … n − 1, made in `rounds` parts in which each way has its turn.

    A batch of each is made before, to warm up. `asked`: what samples with these seeds are asked for, such as their classes.
    """
    parts: dict[str, list[Any]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        first = range(min(batch, n))
        models[way.model].sample(seeds=first, batch=batch, **way.wishes, **asked(first))
    for part in range(rounds):
        seeds = range(n * part // rounds, n * (part + 1) // rounds)
        for name, way in ways.items():
            start = time.perf_counter()
            parts[name].append(models[way.model].sample(seeds=seeds, batch=batch, **way.wishes, **asked(seeds)))
            rates[name].append(len(seeds) / (time.perf_counter() - start))
    return {
        name: Made(models[way.model].codec.together(parts[name]), spread(rates[name])) for name, way in ways.items()
    }
