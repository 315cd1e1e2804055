"""Finite scalar quantisation: a few numbers, each rounded to one of a few levels, are a word of a vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from carrara.networks.options import require


class FiniteScalar(nn.Module):
    """Codes from D channels, channel d to the centre of one of `levels[d]` equal parts of (−1, 1). Nothing in it is learnt.

    Its vocabulary is the product of the levels: ids count through all of them, the first channel fastest.

    Source: Finite Scalar Quantization: VQ-VAE Made Simple, Mentzer et al., 2024, section 3. There the outermost of an odd number of
    levels are half as wide as the others, and an even number needs an offset; parts of equal width need neither.
    """

    levels: Tensor
    places: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        holds = bool(levels) and min(levels) >= 2
        require(("levels", list(levels), holds, "one or more numbers, each 2 or more"), section="trainable")
        counts = torch.tensor(levels)
        places = torch.cat([torch.ones(1, dtype=torch.long), counts.cumprod(0)[:-1]])
        self.register_buffer("levels", counts[:, None, None], persistent=False)
        self.register_buffer("places", places[:, None, None], persistent=False)
        self.vocab = math.prod(levels)

    def forward(self, z: Tensor) -> Tensor:
        """Codes of z (B, D, H, W), float32 in (−1, 1); backwards the rounding is as if it were not there."""
        bounded = z.float().tanh()
        return bounded + (self._centres(self._parts(bounded)) - bounded).detach()

    def ids(self, z: Tensor) -> Tensor:
        """Of z (B, D, H, W) the words, int64 (B, H, W) from 0 to vocab − 1."""
        return (self._parts(z.float().tanh()) * self.places).sum(1)

    def codes(self, ids: Tensor) -> Tensor:
        """The codes (B, D, H, W) of the words (B, H, W)."""
        return self._centres(self.parts(ids))

    def parts(self, ids: Tensor) -> Tensor:
        """Which level each channel of the words (B, H, W) has, int64 (B, D, H, W)."""
        return ids[:, None] // self.places % self.levels

    def _parts(self, bounded: Tensor) -> Tensor:
        """Which part of (−1, 1) each number is in, int64."""
        part = ((bounded + 1) / 2 * self.levels).floor().long()
        return part.clamp(torch.zeros_like(self.levels), self.levels - 1)  # tanh rounds to 1 where z is large.

    def _centres(self, parts: Tensor) -> Tensor:
        return (2 * parts + 1) / self.levels - 1
