"""Full batches: a sample that is drawn alone comes out as it did among others, to the bit.

A product of matrices is computed in blocks of rows, and what is left over by another routine that adds in another order. So the
same row has another rounding in a batch of 3 than in one of 32, and of a picture's numbers a few in ten thousand fall to the
next grey level. In batches of whole blocks each row is computed alike, wherever it stands. That costs nothing where batches are
large; of a few samples alone it is done where it is asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser

BLOCK = 8
"""Rows that are computed alike by the libraries we know of, oneDNN and MKL among them; tests/test_filling.py holds them to it."""


FEW = 4
"""Of fewer samples, made in one call, blocks are filled where that is asked for: over one, a large network would take eight times
as long."""


def pays(count: int) -> bool:
    """Whether blocks are filled for so many samples where nobody says."""
    return count >= FEW


class Filled:
    """A denoiser of numbers whose batch is filled up to whole blocks with its last sample, and its belief cut back."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.process = denoiser, denoiser.process

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The belief about x0 (B, *) given x_t at t, a scalar or (B,)."""
        count = len(x_t)
        missing = -count % BLOCK
        if not missing:
            return self.denoiser(x_t, t, cond)
        rows = torch.cat([torch.arange(count), torch.full((missing,), count - 1)]).to(x_t.device)
        told = None if cond is None else {name: value[rows] for name, value in cond.items()}
        return self.denoiser(x_t[rows], t[rows.to(t.device)] if t.ndim else t, told).first(count)
