"""Kernels of our own, in C, for what takes a network's time on a CPU; torch's are used wherever these cannot be.

    library.py      the C files, compiled for this processor when first wanted, kept in the cache
    convolution.py norms.py attention.py    what they compute, as torch operators with gradients

Measured against torch's own in docs/speed.md. `chosen("torch")` does without them inside; so does CARRARA_NATIVE=off everywhere.
CARRARA_NATIVE=vectors leaves the processor's matrix tiles alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Kernels = Literal["native", "torch"]

_CHOICE: ContextVar[Kernels] = ContextVar("kernels", default="native")


@contextmanager
def chosen(kernels: Kernels) -> Iterator[None]:
    """Within, networks are computed by these kernels where they can be: "native" or "torch"."""
    token = _CHOICE.set(kernels)
    try:
        yield
    finally:
        _CHOICE.reset(token)


def current() -> Kernels:
    """The kernels that are chosen here."""
    return _CHOICE.get()
