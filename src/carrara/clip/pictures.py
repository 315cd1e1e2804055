"""What a picture is made of: an ImageNet network's view of it at several depths, or its colours alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.evaluation.efficientnet import SHA256, network
from carrara.evaluation.features import checked_colours
from carrara.evaluation.resizers import clean

SIDE = 4
"""Into how many parts a picture's side is divided for its colours."""
DEPTHS = (0, 2, 4, 7, 10, 14)
"""The blocks of EfficientNet-Lite0 that are listened to: the last of each stage but the last two, which the end stands for."""
CHANNELS = 1744
"""What they have together, and the end."""
SIZES = (112, 224)
"""The inputs at which it looks: at the smaller it sees the whole, at the larger the parts."""


class Pixels:
    """The mean colours of 4 × 4 parts of a picture: the little that needs no network."""

    name, dim, sha256 = f"pixels@{SIDE}", 3 * SIDE**2, ""

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 (B, 48), from 0 to 1, of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        colours = checked_colours(images).float() / 255
        return F.adaptive_avg_pool2d(colours, SIDE).expand(-1, 3, -1, -1).flatten(1)


@dataclass(frozen=True)
class Depths:
    """Features of a network at several depths and inputs, each channel averaged over the picture, and the picture's colours."""

    name: str
    dim: int
    sha256: str
    sizes: tuple[int, ...]
    network: Callable[[Tensor], Tensor] = field(repr=False)
    colours: Pixels = field(default_factory=Pixels, repr=False)
    batch: int = 16

    @torch.inference_mode()
    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 (B, dim) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        images, rows = checked_colours(images), torch.empty(len(images), self.dim)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            seen = [self.network(clean(part, size)) for size in self.sizes]
            rows[start : start + self.batch] = torch.cat([*seen, self.colours(part)], dim=1)
        return rows


def efficientnet() -> Depths:
    """EfficientNet-Lite0: what it was trained for is in its last channels, and colours and edges in its first.

    Raises MissingExtra without the packages of `carrara[eval]`, DamagedFile on other weights.
    """
    name = f"efficientnet-lite0-depths@{'+'.join(map(str, SIZES))}"
    return Depths(name, len(SIZES) * CHANNELS + Pixels.dim, SHA256, SIZES, _Listening(network()))


class _Listening(nn.Module):
    """(B, 3, H, W), values 0 to 255 -> the means of the channels after each of DEPTHS, and at the end."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.heard: list[Tensor] = []
        for depth in DEPTHS:
            network._blocks[depth].register_forward_hook(self._hear)

    def forward(self, images: Tensor) -> Tensor:
        self.heard = []
        end: Tensor = self.network.extract_features((images - 127) / 128).mean((2, 3))
        return torch.cat([end, *self.heard], dim=1)

    def _hear(self, module: nn.Module, given: Any, out: Tensor) -> None:
        self.heard.append(out.mean((2, 3)))
