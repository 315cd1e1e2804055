"""Texts as vectors: the ids of another codec, each a row of a table that is learned with the denoiser."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy.typing as npt
import torch
from torch import Tensor, nn

from carrara import tensors
from carrara.codecs.layouts import Ids, Layout
from carrara.codecs.nested import text_codec
from carrara.embeddings import Table
from carrara.errors import InputError

BYTES = {"kind": "bytes"}
TABLE = "table.safetensors"


class Embedding:
    """Texts as x0 (B, length, width) float32: an inner codec's ids, looked up in a `carrara.embeddings.Table`.

    The table is trained with the denoiser, which has the same one, and lies in the model's folder. What is kept of a dataset
    are the ids, so they are encoded once, whatever the table becomes.
    """

    once: ClassVar[bool] = True

    def __init__(self, codec: Mapping[str, Any] = BYTES, width: int = 16) -> None:
        """`codec`: as a recipe's section codec, of a kind for texts: {kind: bytes, length: 128}. `width`: numbers a token.

        Raises RecipeError for a codec that is none of texts, InputError for a width below 1.
        """
        if width < 1:
            raise InputError(
                f"codec.width is {width}; it is how many numbers stand for a token, 1 or more (16 is usual)"
            )
        words = "embeddings are of the tokens of texts: choose kind bytes, bpe or characters"
        self.codec, self.width = text_codec(codec, "codec", words), width
        self._table: Table | None = None

    # -------------------------------------------------------------------------------------------- the inner codec's

    @property
    def length(self) -> int:
        """The tokens of a window."""
        return self.codec.length

    @property
    def layout(self) -> Layout:
        """How texts become windows."""
        return self.codec.layout

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        return self.codec.vocab

    def fit(self, texts: Iterable[str]) -> Self:
        """This codec with the inner one made from these texts, where that is of a kind that is."""
        return self._with(self.codec.fit(texts)) if hasattr(self.codec, "fit") else self

    def windows(self, texts: Iterable[str]) -> Iterator[Ids]:
        """The windows of ids (n, length) of a dataset's texts, block by block."""
        return self.codec.windows(texts)

    def measures(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The characters that begin in each token but the last, and its bytes."""
        return self.codec.measures()

    def together(self, parts: Iterable[Sequence[str]]) -> list[str]:
        """Lists of decoded texts as one."""
        return self.codec.together(parts)

    def making(self) -> dict[str, Any]:
        """The inner codec's: what it is made from decides what is kept, and the table does not."""
        return self.codec.making()

    def identity(self) -> str:
        """The inner codec's: ids are what is kept of a dataset."""
        return self.codec.identity()

    # -------------------------------------------------------------------------------------------- the table

    @property
    def table(self) -> Table:
        """The rows. Raises InputError before the codec was begun or restored."""
        if self._table is None:
            raise InputError(
                "the codec embedding has no table yet: it is made with a model (carrara.build) and restored from a model's folder"
            )
        return self._table

    def begin(self) -> Self:
        """This codec with a table of rows at random, or with the one that it has."""
        if self._table is not None:
            return self
        return self._with(self.codec, Table(self.vocab, self.width))

    def learnt(self) -> dict[str, nn.Module]:
        """The table, which the denoiser trains."""
        return {"table": self.table}

    @torch.no_grad()
    def vectors(self, kept: Tensor) -> Tensor:
        """x0 (B, L, width) of ids (B, L), without gradients."""
        rows: Tensor = self.table(kept.to(self.table.weight.device))
        return rows

    # -------------------------------------------------------------------------------------------- media and back

    def encode(self, media: Sequence[str]) -> Tensor:
        """x0 (B, length, width) of texts, a window each. Raises InputError as the inner codec does."""
        return self.vectors(self.codec.encode(media))

    @torch.no_grad()
    def decode(self, x0: Tensor) -> list[str]:
        """The text of each window of vectors (B, L, width), every one rounded to the nearest row's token; or of ids (B, L)."""
        ids = self.table.nearest(x0.to(self.table.weight)) if x0.is_floating_point() else x0
        return self.codec.decode(ids)

    def shape(self, media_shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        """(length, width): the shape of one window's vectors; texts themselves have none."""
        return (self.length, self.width)

    def told(self, media_shape: tuple[int, ...] = ()) -> dict[str, int]:
        """What a network is told of x0: how many numbers each of how many vectors has. Raises InputError for pictures."""
        if media_shape:
            raise InputError(
                "the data has pictures, and the codec embedding is of texts; choose data of texts, or the codec pixels"
            )
        return {"channels": self.width, "length": self.length}

    def start(
        self, start: str | Sequence[str], mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor]:
        """(x0 (count, length, width), what is to be made, bool (count, length, 1)): see the inner codec's `start`."""
        ids, made = self.codec.start(start, mask, media_shape, count)
        return self.vectors(ids).to(ids.device), made[..., None]

    # -------------------------------------------------------------------------------------------- a model's folder

    def save(self, folder: Path) -> None:
        """Writes the inner codec's state and the table, where there is one, into a folder, whose owner writes the files' hashes."""
        self.codec.save(folder)
        if self._table is not None:
            tensors.save(self._table.state_dict(), folder / TABLE)

    def restore(self, folder: Path) -> Self:
        """This codec as it was saved there. Raises DamagedFile where it is not, InputError for a table of another size."""
        inner = self.codec.restore(folder)
        if not (folder / TABLE).is_file():
            return self._with(inner)
        table = Table(inner.vocab, self.width)
        table.load_state_dict(tensors.fitting(folder / TABLE, table.state_dict()))
        return self._with(inner, table)

    def _with(self, codec: Any, table: Table | None = None) -> Self:
        made = copy.copy(self)
        made.codec, made._table = codec, table
        return made
