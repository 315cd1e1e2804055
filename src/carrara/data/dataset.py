"""What every dataset is once loaded: two splits of uint8 pictures, their labels and captions, and one fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from carrara.errors import DataError

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Split:
    """N pictures with their labels, and their captions if the dataset has any.

    media: uint8 (N, C, H, W), usually memory-mapped and read-only; labels: int64 (N,), indices into the dataset's
    classes, all 0 where there are none. Raises DataError when the three do not fit together.
    """

    media: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    captions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.media.dtype != np.uint8 or self.media.ndim != 4:
            raise DataError(
                f"a split's media must be uint8 of shape (N, C, H, W); this is {self.media.dtype} of shape "
                f"{self.media.shape}. Convert it before building the Split."
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.media.shape[:1]:
            raise DataError(
                f"a split's labels must be int64 of shape ({len(self.media)},), one a picture; these are "
                f"{self.labels.dtype} of shape {self.labels.shape}."
            )
        if self.captions is not None and len(self.captions) != len(self.media):
            raise DataError(f"{len(self.captions)} captions for {len(self.media)} pictures: give one for each.")

    def __len__(self) -> int:
        return len(self.media)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named pair of splits over one tuple of classes.

    `classes` is empty where the pictures have none. `fingerprint` is the sha256 (hex) of content and options, equal
    on every machine that sees the same pictures. `flip` says whether training may mirror a picture left-right.
    Raises DataError when a split is empty, the splits' shapes differ or a label names no class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    heldout: Split
    fingerprint: str
    licence: str
    source: str
    flip: bool = False
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for side, split in (("train", self.train), ("heldout", self.heldout)):
            if not len(split):
                raise DataError(f"the dataset {self.name} has no {side} picture: both splits need at least one.")
            if split.labels.min() < 0 or split.labels.max() >= max(1, len(self.classes)):
                raise DataError(
                    f"the dataset {self.name} has {side} labels from {split.labels.min()} to {split.labels.max()}; "
                    f"its {len(self.classes)} classes allow 0 to {max(0, len(self.classes) - 1)}."
                )
        if self.train.media.shape[1:] != self.heldout.media.shape[1:]:
            raise DataError(
                f"the dataset {self.name} has train pictures of shape {self.train.media.shape[1:]} and heldout "
                f"pictures of shape {self.heldout.media.shape[1:]}: give both one shape."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture."""
        channels, height, width = self.train.media.shape[1:]
        return int(channels), int(height), int(width)

    def summary(self) -> dict[str, Any]:
        """What there is to say of the dataset, ready for JSON: counts, shape, classes, fingerprint, licence, notes.

        `classes` maps each class's name to its number of pictures in each split.
        """
        return {
            "name": self.name,
            "counts": {"train": len(self.train), "heldout": len(self.heldout)},
            "shape": list(self.shape),
            "classes": _class_counts(self),
            "captions": self.train.captions is not None,
            "flip": self.flip,
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "source": self.source,
            "notes": list(self.notes),
        }


def _class_counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    train, heldout = (
        np.bincount(split.labels, minlength=len(dataset.classes)) for split in (dataset.train, dataset.heldout)
    )
    return {
        name: {"train": int(train[index]), "heldout": int(heldout[index])}
        for index, name in enumerate(dataset.classes)
    }


def fingerprint(options: Mapping[str, Any], classes: tuple[str, ...], train: Split, heldout: Split) -> str:
    """The sha256 (hex) of what training sees: options, class names, pictures, labels and captions of both splits.

    `options` must hold no path and nothing else that differs between machines.
    """
    digest = hashlib.sha256(_json(["carrara-data-1", dict(options), classes]))
    for split in (train, heldout):
        digest.update(_json([split.media.shape, split.captions]))
        digest.update(split.labels.astype("<i8").tobytes())
        for rows in _rows(split.media):
            digest.update(rows.data)
    return digest.hexdigest()


def _rows(media: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(media), _ROWS_AT_ONCE):
        yield np.ascontiguousarray(media[start : start + _ROWS_AT_ONCE])


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode("ascii")
