"""What the tests of streamed features share with their processes."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from carrara.errors import DataError


@dataclasses.dataclass
class Torn:
    """Pictures of which those from `at` on cannot be read."""

    images: Tensor
    at: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice, /) -> Tensor:
        if rows.stop > self.at:
            raise DataError(f"picture {self.at} is gone")
        return self.images[rows]


def pictures(n: int, channels: int = 3, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), dtype=torch.uint8, generator=rng)
