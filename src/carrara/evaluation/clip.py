"""Clip: pictures and sentences as directions of one space, in which a picture lies near the words that describe it.

Everything that asks whether a picture shows what was written asks an object of this protocol, whoever trained it.
Its figures are comparable with those of the same weights only, so it carries their name and their hash.
Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.features import Known, checked_colours
from carrara.evaluation.inputs import checked_images


@runtime_checkable
class Clip(Known, Protocol):
    """Two maps into one space of unit vectors, with all that decides their values. It need not be a module."""

    def images(self, images: Tensor, /) -> Tensor:
        """Float32 unit vectors (B, D), D being `dim`, of uint8 images (B, 3, H, W), B ≥ 0; InputError on anything else.

        A row does not depend on its batch, and carries no gradient. It is of the whole size given: an object
        resizes, crops and normalises by itself, and splits large B into batches of its own.
        """

    def texts(self, texts: Sequence[str], /) -> Tensor:
        """Float32 unit vectors (B, D) of B ≥ 0 sentences; what is too long is cut, and the empty sentence is one."""


@dataclass(frozen=True)
class ClipFeatures:
    """The Features of a Clip's pictures: its unit vectors, for CMMD and for the neighbours of samples."""

    clip: Clip

    @property
    def name(self) -> str:
        """The Clip's name."""
        return self.clip.name

    @property
    def dim(self) -> int:
        """The Clip's D."""
        return self.clip.dim

    @property
    def sha256(self) -> str:
        """The Clip's SHA-256."""
        return self.clip.sha256

    @property
    def resizer(self) -> str:
        """What the Clip says of its resizing, if it does."""
        return str(getattr(self.clip, "resizer", "its own resizing"))

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 unit vectors (B, D) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        return self.clip.images(checked_colours(images).expand(-1, 3, -1, -1))


def checked_rgb(images: Tensor) -> Tensor:
    """The same tensor, on the CPU, once it is uint8 (B, 3, H, W); otherwise InputError."""
    images = checked_images(images)
    if images.shape[1] != 3:
        raise InputError(
            f"a CLIP sees images with 3 channels (RGB); got {images.shape[1]} in {tuple(images.shape)}. "
            "Repeat grey ones over the channels: images.expand(-1, 3, -1, -1)."
        )
    return images
