"""Features: pictures as a pretrained network sees them, the space in which sets of pictures are compared.

A distance between features is only as comparable as the features are equal: the same weights file, the same
input size and the same resizer. So each `Features` carries all three, and every result prints them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from carrara import files
from carrara.errors import DamagedFile, InputError
from carrara.evaluation.inputs import checked_images
from carrara.evaluation.resizers import clean
from carrara.plugins import find

FEATURES: dict[str, str] = {
    "efficientnet": "carrara.evaluation.efficientnet:efficientnet",
    "inception": "carrara.evaluation.inception:inception",
    "inception_spatial": "carrara.evaluation.inception:inception_spatial",
    "inception_tensorflow": "carrara.evaluation.inception:inception_tensorflow",
}
"""kind -> dotted path of a function that returns Features."""

OF_A_FILE = frozenset(kind for kind in FEATURES if kind.startswith("inception"))
"""The kinds that may be given a weights file of the user's own."""

RESIZER = "antialiased bicubic"


class Known(Protocol):
    """What makes vectors, and says which weights do: only figures of the same ones can be compared."""

    @property
    def name(self) -> str:
        """The network and its input size, such as "efficientnet-lite0@112"."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    @property
    def sha256(self) -> str:
        """The weights' SHA-256, in hexadecimal; empty where there are none."""


class Features(Known, Protocol):
    """A map from pictures to vectors, with all that decides its values."""

    @property
    def resizer(self) -> str:
        """How pictures are brought to the input size."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 features (B, dim) of uint8 images (B, C, H, W), C = 1 or 3."""


def identity(features: Features) -> dict[str, str]:
    """All that decides features' values, as figures tell it and as what is kept goes by."""
    return {"features": features.name, "sha256": features.sha256, "resizer": features.resizer}


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
        return self.network(clean(images, self.size))


def checked_colours(images: Tensor) -> Tensor:
    """The same tensor, once it is uint8 (B, 1, H, W) or (B, 3, H, W); otherwise InputError."""
    images = checked_images(images)
    if images.shape[1] not in (1, 3):
        raise InputError(
            f"features are of images with 1 channel (grey) or 3 (RGB); got {images.shape[1]} in {tuple(images.shape)}."
        )
    return images


def load_features(kind: str) -> Features:
    """The Features of a kind in FEATURES, or of a dotted path "my_lab.features:mine"; otherwise InputError.

    "inception:PATH" takes the weights from a file, whose content must be known; one that is not is allowed by its
    SHA-256 behind it, "inception:PATH#SHA256".
    """
    name, colon, path = kind.partition(":")
    if not (colon and name in FEATURES):
        build: Callable[[], Features] = find("features", kind, FEATURES)
        return build()
    if name not in OF_A_FILE or not path:
        raise InputError(
            f"the features {kind!r} name no weights file that can be read: allowed are "
            f"{', '.join(f'{kind}:PATH' for kind in sorted(OF_A_FILE))}"
        )
    return _of_file(name, path)


def _of_file(name: str, path: str) -> Features:
    named = re.fullmatch(r"(.+)#([0-9a-fA-F]{64})", path)
    file, sha256 = named.groups() if named else (path, None)
    build: Callable[[Path, str | None], Features] = find("features", name, FEATURES)
    return build(Path(file).expanduser(), sha256)


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
