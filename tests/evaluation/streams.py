"""What the tests of streamed features share with their processes."""

from __future__ import annotations

import dataclasses
import hashlib

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import DataError


@dataclasses.dataclass
class Pooled:
    """Features that are the means of 16 areas of a picture; they count the pictures they are shown."""

    name: str = "pooled@4"
    dim: int = 16
    sha256: str = hashlib.sha256(b"").hexdigest()
    resizer: str = "area"
    seen: int = 0

    def __call__(self, images: Tensor, /) -> Tensor:
        self.seen += len(images)
        return F.adaptive_avg_pool2d(images.float(), 4).mean(1).flatten(1)


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
