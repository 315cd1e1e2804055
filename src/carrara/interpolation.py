"""Samples between samples of a model: what lies there is in between.py, here it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from carrara.between import Between, Stops, blended
from carrara.model import Model
from carrara.sampling import Sampling


def between(
    model: Model,
    seeds: Sequence[int],
    count: int = 6,
    *,
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
    **wishes: Any,
) -> Any:
    """The samples of these seeds, two or more, and `count` on the way from each to the next: (len(seeds) − 1)(count + 1) + 1.

    Wishes are those of `Model.sample`, for the ends, which are its samples, to the bit (`exact=True`): their noise is turned from
    one to the next, and from prompt to prompt states of a frozen text encoder lie in between. With one seed for both, only the
    prompt changes.
    Raises InputError for a sampler that adds noise, for tokens, and for ends that differ in what has nothing in between, such as a
    class.

    >>> between(model, [3, 3], 8, prompt=["a red heart", "a blue car"])  # doctest: +SKIP
    """
    sampling, cond = model.plan(len(seeds), wishes)
    way, cond = planned(model, seeds, count, sampling, cond)
    return model.drawn(
        [seeds[end] for end in way.stops.first.tolist()], cond, sampling, way, batch, progress, exact=True
    )


def planned(model: Model, seeds: Sequence[int], count: int, sampling: Sampling, cond: Any) -> tuple[Between, Any]:
    """Where the samples of `between` begin, and their condition, from that of the ends. Raises InputError as that does."""
    sampling.check_between(model.denoiser.process)
    stops = Stops.of(len(seeds), count)
    return Between(tuple(seeds), tuple(model.codec.shape(model.shape)), stops), blended(cond, stops)
