"""What a training sees of a dataset: x0 as the codec makes it, batch after batch, and what conditions are made of.

Pixels are encoded as they are seen. What a codec makes `once` (ids, latents) is computed for the whole dataset, kept, and read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.codecs.base import Codec
from carrara.codecs.encoded import encoded, mirrored
from carrara.data import Dataset, Split
from carrara.data.batches import batch as take
from carrara.errors import RecipeError

Rows = npt.NDArray[np.int64]
Flips = npt.NDArray[np.bool_]


class Examples:
    """The examples of one split, as many as there are pictures, texts, or windows of packed text."""

    def __init__(
        self,
        split: Split,
        codec: Codec,
        kept: npt.NDArray[Any] | None,
        mirrored: npt.NDArray[Any] | None = None,
    ) -> None:
        """`kept`: x0 of all examples (N, *shape), where the codec makes it once; `mirrored`: the same of them mirrored."""
        self.split, self.codec, self.kept, self.mirrored = split, codec, kept, mirrored

    def __len__(self) -> int:
        return len(self.split if self.kept is None else self.kept)

    @property
    def whole(self) -> bool:
        """Whether each example is one of the split's, with its label and whatever else it has; windows of packed text are not."""
        return len(self) == len(self.split)

    def batch(self, rows: Rows, flips: Flips | None = None) -> dict[str, Any]:
        """What a condition is made of, and media or x0, for examples (B,); flips bool (B,): those that are mirrored."""
        if self.kept is None:
            return take(self.split, rows, flips)
        x0 = torch.from_numpy(self._kept(self.kept, rows, flips))
        batch: dict[str, Any] = {"x0": x0 if x0.is_floating_point() else x0.long()}
        if self.whole:
            batch["label"] = torch.from_numpy(self.split.labels[rows])
            if self.split.captions is not None:
                batch["caption"] = [self.split.captions[row] for row in rows]
            if self.split.sources is not None:
                batch["source"] = self.split.sources.chosen(rows)
        return batch

    def _kept(self, kept: npt.NDArray[Any], rows: Rows, flips: Flips | None) -> npt.NDArray[Any]:
        """A copy of what is kept of examples, or of them mirrored."""
        x0 = np.array(kept[rows])
        if flips is not None and self.mirrored is not None:
            x0[flips] = self.mirrored[rows[flips]]
        return x0

    def x0(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """x0 (B, *shape) of a batch, on the device."""
        if "x0" in batch:
            x0: Tensor = batch["x0"].to(device)
            return x0
        return self.codec.encode(batch["media"].to(device))


def examples_of(dataset: Dataset, codec: Codec) -> tuple[Examples, Examples]:
    """The training and the held-out examples of a dataset. Raises InputError or DataError for what the codec cannot encode."""
    if not codec.once:
        return Examples(dataset.train, codec, None), Examples(dataset.heldout, codec, None)
    if dataset.shape:
        codec.shape(dataset.shape)  # Which refuses pictures that it does not know, before any is encoded.
    train, heldout = encoded(dataset, codec)
    turned = mirrored(dataset, codec) if dataset.flip else None
    return Examples(dataset.train, codec, train, turned), Examples(dataset.heldout, codec, heldout)


def check_labelled(examples: Examples, told: Mapping[str, int]) -> None:
    """Raises RecipeError where a condition tells a network of labels, sources or texts that the examples have none of."""
    if any(told.values()) and not examples.whole:
        raise RecipeError(
            "windows of packed text begin and end anywhere, so they have neither label nor source nor caption; set codec.layout to "
            "rows, or condition.kind to none"
        )
