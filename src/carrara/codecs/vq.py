"""Pictures as the ids of an autoencoder that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from carrara.codecs.trained import Trained, sizes
from carrara.editing import pictures, places
from carrara.errors import InputError
from carrara.vq.model import VqModel, load, read


class Vq(Trained[VqModel]):
    """uint8 pictures (B, C, H, W) as ids, int64 (B, L) from 0 to vocab − 1, by the autoencoder in a run or model folder."""

    usual: ClassVar[str] = "vq-fashion"

    def __init__(self, model: Path) -> None:
        """`model`: the folder of a run of a recipe whose trainable is of kind vq, such as vq-fashion, or its model folder."""
        super().__init__(model)

    def load(self, folder: Path) -> VqModel:
        """The autoencoder in a model folder, or in that of a finished run."""
        return load(folder)

    def read(self, folder: Path) -> VqModel:
        """The autoencoder whose files are in this folder, which somebody else has compared with their hashes."""
        return read(folder)

    @property
    def vocab(self) -> int:
        """How many words there are; the id `vocab` is free for a mask."""
        return self.model.vocab

    def encode(self, media: Tensor) -> Tensor:
        """ids (B, L) of uint8 pictures (B, C, H, W). Raises InputError for other pictures than the autoencoder's."""
        return self.model.encode(media)

    def decode(self, x0: Tensor) -> Tensor:
        """uint8 pictures of ids (B, L), grey where an id is none of the vocabulary's, such as a mask that was left over."""
        return self.model.decode(x0)

    def shape(self, media_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(L,), given the shape of one picture. Raises InputError where the autoencoder knows pictures of another."""
        if tuple(media_shape) != self.model.shape:
            ours, given = sizes(self.model.shape, media_shape)
            raise InputError(
                f"the autoencoder in {self.folder} knows pictures {ours} and the data has {given}; train one on this data, "
                "or set data.size to its own"
            )
        h, w = self.model.grid
        return (h * w,)

    def told(self, media_shape: tuple[int, ...]) -> dict[str, Any]:
        """What a network is told of x0: how many words there are, of what parts, how many stand for a picture, on what grid."""
        return {
            "vocab": self.vocab,
            "levels": self.model.levels,
            "length": self.shape(media_shape)[0],
            "grid": self.model.grid,
        }

    def start(
        self, start: Tensor, mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """(ids (count, L), bool (count, L)): a word is made anew where a pixel that it stands for is to be made."""
        ids = self.encode(pictures(start, media_shape, count))
        if mask is None:
            return ids, None
        made = places(mask, media_shape[1:], count).float()
        return ids, F.adaptive_max_pool2d(made, self.model.grid).bool().flatten(1)
