"""What every condition does, and the one place where conditions are dropped out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from carrara.denoisers import Cond
from carrara.processes import like
from carrara.rng import Streams


class Condition(Protocol):
    """Turns a batch of data, or what a user asks for, into named tensors."""

    @property
    def dropout(self) -> float:
        """The share of training samples whose condition is replaced by the null."""
        ...

    def told(self) -> dict[str, int]:
        """What a network is told of it: how many classes there are, or what its sources are made of."""
        ...

    def encode(self, batch: Mapping[str, Any]) -> Cond | None:
        """The condition of a training batch."""
        ...

    def ask(self, count: int, **wishes: Any) -> Cond | None:
        """The condition of `count` samples from what a user asks for (label=…, prompt=…)."""
        ...

    def null(self, count: int) -> Cond | None:
        """The condition that says nothing, for `count` samples."""
        ...


def dropped(condition: Condition, cond: Cond | None, rng: Streams) -> Cond | None:
    """`cond` with the null in the place of a share `condition.dropout` of its samples, drawn from each sample's own stream."""
    drop = rng.uniform() < condition.dropout
    if cond is None:
        return None
    null = condition.null(len(rng))
    assert null is not None
    return {name: torch.where(like(drop, value).bool(), null[name].to(value), value) for name, value in cond.items()}


def examples(condition: Condition, count: int) -> dict[str, list[str]]:
    """The text of each of `count` samples where nobody asks for any, by what it is asked for as: source or prompt; or nothing."""
    for name in ("source", "prompt"):
        of: Callable[[int], list[str]] | None = getattr(condition, f"{name}s", None)
        if of is not None and (found := of(count)):
            return {name: found}
    return {}
