"""Pictures as the ids of an autoencoder that was trained before."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.editing import pictures, places
from carrara.errors import InputError
from carrara.vq.model import VqModel, load, read


class Vq:
    """uint8 pictures (B, C, H, W) as ids, int64 (B, L) from 0 to vocab − 1, by the autoencoder in a run or model folder.

    The folder is read when it is first needed; a model that was saved has a copy of it, and does not need it again.
    """

    once: ClassVar[bool] = True

    def __init__(self, model: Path) -> None:
        """`model`: the folder of a run of a recipe whose trainable is of kind vq, such as vq-fashion, or its model folder."""
        self.folder = model

    @cached_property
    def model(self) -> VqModel:
        """The autoencoder. Raises InputError where there is none, or a model of another kind; DamagedFile for damage."""
        folder = self.folder.expanduser()
        if not folder.is_dir():
            raise InputError(
                f"codec.model is {str(self.folder)!r}, and there is no such folder; train an autoencoder first, e.g. "
                "carrara train vq-fashion, and give its run folder"
            )
        return load(folder)

    @property
    def vocab(self) -> int:
        """How many words there are; the id `vocab` is free for a mask."""
        return self.model.vocab

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of the autoencoder's weights: what was trained on its ids knows no other's."""
        return self.model.sha256

    def encode(self, media: Tensor) -> Tensor:
        """ids (B, L) of uint8 pictures (B, C, H, W). Raises InputError for other pictures than the autoencoder's."""
        return self.model.encode(media)

    def decode(self, ids: Tensor) -> Tensor:
        """uint8 pictures of ids (B, L), grey where an id is none of the vocabulary's, such as a mask that was left over."""
        return self.model.decode(ids)

    def shape(self, media_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(L,), given the shape of one picture. Raises InputError where the autoencoder knows pictures of another."""
        if tuple(media_shape) != self.model.shape:
            ours, given = ("×".join(map(str, sides)) for sides in (self.model.shape, media_shape))
            raise InputError(
                f"the autoencoder in {self.folder} knows pictures {ours} and the data has {given}; train one on this data, "
                "or set data.size to its own"
            )
        h, w = self.model.grid
        return (h * w,)

    def told(self, media_shape: tuple[int, ...]) -> dict[str, int]:
        """What a network is told of x0: how many words there are, and how many stand for a picture."""
        return {"vocab": self.vocab, "length": self.shape(media_shape)[0]}

    def start(
        self, start: Tensor, mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """(ids (count, L), bool (count, L)): a word is made anew where a pixel that it stands for is to be made."""
        ids = self.encode(pictures(start, media_shape, count))
        if mask is None:
            return ids, None
        made = places(mask, media_shape[1:], count).float()
        return ids, F.adaptive_max_pool2d(made, self.model.grid).bool().flatten(1)

    def identity(self) -> str:
        """The autoencoder's hash: its ids are nobody else's."""
        return f"vq {self.sha256}"

    def together(self, parts: Iterable[Tensor]) -> Tensor:
        """Pictures that were decoded in parts, as one tensor."""
        return torch.cat(list(parts))

    def save(self, folder: Path) -> None:
        """Writes the autoencoder's files into an empty folder, whose owner writes their hashes."""
        self.model.fill(folder)

    def restore(self, folder: Path) -> Self:
        """The codec whose autoencoder is the one that `save` wrote into this folder."""
        made = copy.copy(self)
        made.model = read(folder)
        return made
