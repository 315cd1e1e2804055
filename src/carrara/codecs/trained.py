"""What codecs over an autoencoder that was trained before have in common."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, Self

import torch
from torch import Tensor

from carrara.autoencoders import Found
from carrara.errors import InputError
from carrara.model import DESCRIPTION
from carrara.recipe import names


class Trained(ABC, Generic[Found]):
    """uint8 pictures (B, C, H, W) as what the autoencoder in a run or model folder makes of them, and back.

    The folder is read when it is first needed; a model that was saved has a copy of it, and does not need it again.
    """

    once: ClassVar[bool] = True
    usual: ClassVar[str] = ""
    """A recipe that trains such an autoencoder."""

    def __init__(self, model: Path) -> None:
        """`model`: the folder of an autoencoder's run, or its model folder."""
        self.folder = model

    @property
    def recipe(self) -> str:
        """The recipe whose run the folder is by its name; the usual one where it is no recipe's."""
        return self.folder.name if self.folder.name in names() else self.usual

    @abstractmethod
    def load(self, folder: Path) -> Found:
        """The autoencoder in a model folder, or in that of a finished run."""

    @abstractmethod
    def read(self, folder: Path) -> Found:
        """The autoencoder whose files are in this folder, which somebody else has compared with their hashes."""

    @cached_property
    def model(self) -> Found:
        """The autoencoder. Raises InputError where there is none, or a model of another kind; DamagedFile for damage."""
        folder = self.folder.expanduser()
        if not folder.is_dir():
            raise InputError(
                f"codec.model is {str(self.folder)!r}, and there is no such folder; train an autoencoder first, e.g. "
                f"carrara train {self.recipe}, and give its run folder"
            )
        if _begun(folder):
            raise InputError(
                f"codec.model is {str(self.folder)!r}, and the run in it is not finished; go on with it by the command that "
                f"began it, e.g. carrara train {self.recipe} --out {self.folder}"
            )
        return self.load(folder)

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of the autoencoder: what was trained on what it makes knows no other's."""
        return self.model.sha256

    @abstractmethod
    def encode(self, media: Tensor) -> Tensor:
        """x0 of uint8 pictures (B, C, H, W). Raises InputError for other pictures than the autoencoder's."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """uint8 pictures of x0."""

    def identity(self) -> str:
        """The autoencoder's hash: what it makes is nobody else's."""
        return f"{self.model.kind} {self.sha256}"

    def together(self, parts: Iterable[Tensor]) -> Tensor:
        """Pictures that were decoded in parts, as one tensor."""
        return torch.cat(list(parts))

    def save(self, folder: Path) -> None:
        """Writes the autoencoder's files into an empty folder, whose owner writes their hashes."""
        self.model.fill(folder)

    def restore(self, folder: Path) -> Self:
        """The codec whose autoencoder is the one that `save` wrote into this folder."""
        made = copy.copy(self)
        made.model = self.read(folder)
        return made


def _begun(folder: Path) -> bool:
    """Whether there is a run that has no model yet."""
    from carrara.training.run import MODEL, RECIPE

    return (folder / RECIPE).is_file() and not (folder / DESCRIPTION).exists() and not (folder / MODEL).exists()


def sizes(*shapes: tuple[int, ...]) -> list[str]:
    """Shapes as people write them, 3×64×64."""
    return ["×".join(map(str, shape)) for shape in shapes]
