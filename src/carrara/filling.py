"""Full batches: a sample that is drawn alone comes out as it did among others, to the bit.

A product of matrices is computed in blocks of rows, and what is left over by another routine that adds in another order. So the
same row has another rounding in a batch of 3 than in one of 32, and of a picture's numbers a few in ten thousand fall to the
next grey level; of a text a token becomes another, and all that follows with it. In batches of whole blocks each row is computed
alike, wherever it stands. That costs nothing where batches are large; of a few samples alone it is done where it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser, Following, Reading, following, reading

BLOCK = 8
"""Rows that are computed alike by the libraries we know of, oneDNN and MKL among them; tests/test_filling.py holds them to it."""


FEW = 4
"""Of fewer samples, made in one call, blocks are filled where that is asked for: over one, a large network would take eight times
as long."""


def pays(count: int) -> bool:
    """Whether blocks are filled for so many samples where nobody says."""
    return count >= FEW


class Filled:
    """A denoiser whose batch is filled up to whole blocks with its last sample, and its belief cut back.

    One that remembers (see `carrara.denoisers.Following`) remembers the whole blocks.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.process = denoiser, denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The belief about x0 (B, *) given x_t at t, a scalar or (B,)."""
        rows = _filled(x_t)
        if rows is None:
            return self.denoiser(x_t, t, cond)
        times = t[rows.to(t.device)] if t.ndim else t
        return self.denoiser(x_t[rows], times, _picked(cond, rows)).first(len(x_t))

    @property
    def following(self) -> Following | None:
        """The denoiser's, of whole blocks, where it has one."""
        inner = following(self.denoiser)
        return None if inner is None else _FilledMemory(inner)

    @property
    def reading(self) -> Reading | None:
        """As `following`, of the denoiser's `reading`."""
        inner = reading(self.denoiser)
        return None if inner is None else _FilledMemory(inner)


@dataclass(frozen=True)
class _FilledMemory:
    """`Following`, or `Reading`, whose batch and memory are of whole blocks."""

    inner: Following | Reading

    def __call__(self, ids: Tensor, cond: Cond | None, memory: Any, /) -> tuple[Tensor, Any]:
        rows = _filled(ids)
        if rows is None:
            return self.inner(ids, cond, memory)
        logits, memory = self.inner(ids[rows], _picked(cond, rows), memory)
        return logits[: len(ids)], memory


def _filled(x: Tensor) -> Tensor | None:
    """Which samples of x (B, *) make whole blocks, its last over and over at the end; None where they do already."""
    missing = -len(x) % BLOCK
    if not missing:
        return None
    return torch.arange(len(x) + missing, device=x.device).clamp(max=len(x) - 1)


def _picked(cond: Cond | None, rows: Tensor) -> Cond | None:
    """The condition of those samples."""
    return None if cond is None else {name: value[rows] for name, value in cond.items()}
