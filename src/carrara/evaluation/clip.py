"""Clip: pictures and sentences as directions of one space, in which a picture lies near the words that describe it.

Everything that asks whether a picture shows what was written asks an object of this protocol, whoever trained it.
Its figures are comparable with those of the same weights only, so it carries their name and their hash.
Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Clip(Protocol):
    """Two maps into one space of unit vectors, with all that decides their values. It need not be a module."""

    @property
    def name(self) -> str:
        """The network and its input size, such as "clip-vit-base-patch32@224"."""

    @property
    def dim(self) -> int:
        """The length D of an embedding."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights, in hexadecimal."""

    def images(self, images: Tensor, /) -> Tensor:
        """Float32 unit vectors (B, D) of uint8 images (B, 3, H, W), B ≥ 0; InputError on anything else.

        A row does not depend on its batch, and carries no gradient. It is of the whole size given: an object
        resizes, crops and normalises by itself, and splits large B into batches of its own.
        """

    def texts(self, texts: Sequence[str], /) -> Tensor:
        """Float32 unit vectors (B, D) of B ≥ 0 sentences; what is too long is cut, and the empty sentence is one."""
