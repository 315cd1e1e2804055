"""Class labels as a condition, and no condition at all."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch

from carrara.denoisers import Cond
from carrara.errors import InputError, nearest

Label = int | str | Sequence[int | str]


class NoCondition:
    """The model is not conditioned."""

    dropout = 0.0

    def __init__(self, classes: tuple[str, ...] = ()) -> None:
        self.classes: tuple[str, ...] = ()

    def told(self) -> dict[str, int]:
        return {"classes": 0}

    def encode(self, batch: Mapping[str, Any]) -> Cond | None:
        return None

    def ask(self, count: int, **wishes: Any) -> Cond | None:
        """None. Raises InputError if anything was asked for."""
        if any(value is not None for value in wishes.values()):
            raise InputError(f"this model is unconditional; it cannot be asked for {', '.join(wishes)}")
        return None

    def null(self, count: int) -> Cond | None:
        return None


class LabelCondition:
    """{"label": (B,) int64}: 0 … K − 1 for the K classes, K for the null."""

    def __init__(self, classes: tuple[str, ...], dropout: float = 0.1) -> None:
        """`dropout`: the share of training samples that are shown the null, which classifier-free guidance needs."""
        if not classes:
            raise InputError(
                "condition kind 'label' needs classes, and the data has none; use kind 'none', "
                "or put the pictures in one subfolder a class"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"condition.dropout is {dropout}; it must be at least 0 and below 1")
        self.classes, self.dropout = tuple(classes), dropout

    def told(self) -> dict[str, int]:
        return {"classes": len(self.classes)}

    def encode(self, batch: Mapping[str, Any]) -> Cond:
        return {"label": batch["label"]}

    def ask(self, count: int, label: Label | None = None, **wishes: Any) -> Cond:
        """One label for all samples, or one each, by number or by name; None: the classes in turn.

        Raises InputError for an unknown class, a wrong number of labels, or any other wish.
        """
        if any(value is not None for value in wishes.values()):
            raise InputError(f"this model is asked for by label; it does not know {', '.join(wishes)}")
        if label is None:
            return {"label": torch.arange(count) % len(self.classes)}
        labels: list[Any] = list(label) if _several(label) else [label] * count
        if len(labels) != count:
            raise InputError(f"{len(labels)} labels were given for {count} samples; give one, or one for each")
        return {"label": torch.tensor([self.index(value) for value in labels])}

    def index(self, label: int | str) -> int:
        """The number of the class called `label`, or `label` itself if it is a number in range."""
        if isinstance(label, str) and label in self.classes:
            return self.classes.index(label)
        number = _number(label)
        if number is not None and 0 <= number < len(self.classes):
            return number
        raise InputError(
            f"there is no class {label!r}: {nearest(str(label), self.classes)}, or 0 to {len(self.classes) - 1}"
        )

    def null(self, count: int) -> Cond:
        return {"label": torch.full((count,), len(self.classes))}


def _several(label: Any) -> TypeGuard[Iterable[Any]]:
    """Whether there is more than one label, or may be: a tensor or array without axes is one."""
    return isinstance(label, Iterable) and not isinstance(label, str) and getattr(label, "ndim", 1) > 0


def _number(label: Any) -> int | None:
    """A whole number, be it a string, an int, NumPy's or a tensor's; None for anything else, True and False among them."""
    if isinstance(label, bool | np.bool_) or getattr(label, "dtype", None) == torch.bool:
        return None
    if isinstance(label, str):
        return int(label) if label.isdecimal() else None
    try:
        return operator.index(label)
    except TypeError:
        return None
