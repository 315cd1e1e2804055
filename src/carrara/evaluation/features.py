"""Features: pictures as a pretrained network sees them, the space in which sets of pictures are compared.

A distance between features is only as comparable as the features are equal: the same weights file, the same
input size and the same resizer. So each `Features` carries all three, and every result prints them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara import files
from carrara.errors import DamagedFile, InputError
from carrara.evaluation.inputs import checked_images
from carrara.plugins import find

FEATURES: dict[str, str] = {
    "efficientnet": "carrara.evaluation.efficientnet:efficientnet",
    "inception": "carrara.evaluation.inception:inception",
}
"""kind -> dotted path of a function that returns Features."""

RESIZER = "antialiased bicubic"


class Features(Protocol):
    """A map from pictures to vectors, with all that decides its values."""

    @property
    def name(self) -> str:
        """The network and its input size, such as "efficientnet-lite0@112"."""

    @property
    def dim(self) -> int:
        """The length of a feature vector."""

    @property
    def sha256(self) -> str:
        """The weights file's SHA-256, in hexadecimal."""

    @property
    def resizer(self) -> str:
        """How pictures are brought to the input size."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 features (B, dim) of uint8 images (B, C, H, W), C = 1 or 3."""


@dataclass(frozen=True)
class NetworkFeatures:
    """The Features of a network that takes float32 images (B, 3, size, size) with values 0 to 255."""

    name: str
    dim: int
    sha256: str
    size: int
    network: Callable[[Tensor], Tensor] = field(repr=False)
    batch: int = 16
    resizer: str = RESIZER

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 features (B, dim) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        images = checked_colours(images)
        features = torch.empty(len(images), self.dim)
        for start in range(0, len(images), self.batch):
            features[start : start + self.batch] = self._forward(images[start : start + self.batch])
        return features

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        return self.network(resized(images, self.size))


def checked_colours(images: Tensor) -> Tensor:
    """The same tensor, once it is uint8 (B, 1, H, W) or (B, 3, H, W); otherwise InputError."""
    images = checked_images(images)
    if images.shape[1] not in (1, 3):
        raise InputError(
            f"features are of images with 1 channel (grey) or 3 (RGB); got {images.shape[1]} in {tuple(images.shape)}."
        )
    return images


def resized(images: Tensor, size: int) -> Tensor:
    """Float32 images (B, 3, size, size), values 0 to 255, of uint8 ones (B, 1 or 3, H, W).

    Bicubic with a filter as wide as the reduction, in floating point and without rounding, as Pillow does in
    mode F; what overshoots is clipped.
    Source: On Aliased Resizing and Surprising Subtleties in GAN Evaluation, Parmar, Zhang and Zhu, 2022.
    """
    pixels = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True, align_corners=False)
    # Channels last: float32 convolutions are 1.3 to 2.5 times as fast on a CPU.
    rgb = pixels.clamp_(0, 255).expand(-1, 3, -1, -1)
    return rgb.contiguous(memory_format=torch.channels_last)


def load_features(kind: str) -> Features:
    """The Features of a kind in FEATURES, or of a dotted path "my_lab.features:mine"; otherwise InputError."""
    build: Callable[[], Features] = find("features", kind, FEATURES)
    return build()


def package_file(package: str, inside: str) -> Path | None:
    """A file inside an installed package, found without importing it; None when it is not there."""
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((Path(folder) / inside for folder in folders if (Path(folder) / inside).is_file()), None)


def verified(path: Path, sha256: str) -> Path:
    """The same path, once its content has this SHA-256; otherwise DamagedFile."""
    found = files.sha256(path)
    if found != sha256:
        raise DamagedFile(
            f"{path} is not the weights file it should be: its SHA-256 is {found}, expected {sha256}. "
            "Reinstall the package it came with."
        )
    return path
