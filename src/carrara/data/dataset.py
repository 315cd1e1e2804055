"""What every dataset is once loaded: two splits of pictures or of texts, their labels and captions, and one fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from carrara.data.documents import Documents
from carrara.errors import DataError, InputError

_ROWS_AT_ONCE = 1024

Media = npt.NDArray[np.uint8] | Documents


@dataclass(frozen=True, eq=False)
class Split:
    """N pictures or N texts with their labels, and what else the dataset has of each.

    media: pictures, uint8 (N, C, H, W), usually memory-mapped and read-only, or texts, `Documents`; labels: int64 (N,),
    indices into the dataset's classes, all 0 where there are none; captions: a text for each picture; sources: of paired
    texts, the other of each pair, which media is to be made from. Raises DataError when they do not fit together.
    """

    media: Media
    labels: npt.NDArray[np.int64]
    captions: tuple[str, ...] | None = None
    sources: Documents | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.media, Documents) and (self.media.dtype != np.uint8 or self.media.ndim != 4):
            raise DataError(
                f"a split's media must be uint8 of shape (N, C, H, W); this is {self.media.dtype} of shape "
                f"{self.media.shape}. Convert it before building the Split."
            )
        if self.labels.dtype != np.int64 or self.labels.shape != (len(self),):
            raise DataError(
                f"a split's labels must be int64 of shape ({len(self)},), one a {self.noun}; these are "
                f"{self.labels.dtype} of shape {self.labels.shape}."
            )
        for word, given in (("captions", self.captions), ("sources", self.sources)):
            if given is not None and len(given) != len(self):
                raise DataError(f"{len(given)} {word} for {len(self)} {self.noun}s: give one for each.")

    def __len__(self) -> int:
        return len(self.media)

    @property
    def noun(self) -> str:
        """What the media are, one of them: "picture" or "text"."""
        return "text" if isinstance(self.media, Documents) else "picture"

    @property
    def pictures(self) -> npt.NDArray[np.uint8]:
        """The media, uint8 (N, C, H, W). Raises InputError where they are texts."""
        if isinstance(self.media, Documents):
            raise InputError(
                f"the data holds {len(self):,} texts, and pictures are needed here; choose a dataset of pictures, such as "
                "digits, fashion, emoji or a folder of your own, or for texts a codec of texts: bytes, bpe or characters"
            )
        return self.media

    @property
    def texts(self) -> Documents:
        """The media, N texts. Raises InputError where they are pictures."""
        if isinstance(self.media, Documents):
            return self.media
        raise InputError(
            f"the data holds {len(self):,} pictures, and texts are needed here; choose a dataset of texts, such as "
            "verse, gloss, chinese, words or texts of your own, or for pictures the codec pixels"
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named pair of splits over one tuple of classes.

    `classes` is empty where the media have none. `fingerprint` is the sha256 (hex) of content and options, equal on
    every machine that sees the same pictures or texts. `flip` says whether training may mirror a picture left-right.
    Raises DataError when a split is empty, the splits are not alike or a label names no class.
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
                raise DataError(f"the dataset {self.name} has no {side} {split.noun}: both splits need at least one.")
            if split.labels.min() < 0 or split.labels.max() >= max(1, len(self.classes)):
                raise DataError(
                    f"the dataset {self.name} has {side} labels from {split.labels.min()} to {split.labels.max()}; "
                    f"its {len(self.classes)} classes allow 0 to {max(0, len(self.classes) - 1)}."
                )
        if _kind(self.train) != _kind(self.heldout):
            raise DataError(
                f"the dataset {self.name} has train {_kind(self.train)} and heldout {_kind(self.heldout)}: give both "
                "one shape."
            )
        if self.flip and self.train.noun == "text":
            raise DataError(f"the dataset {self.name} has texts, which cannot be mirrored: leave flip out.")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one picture; () of texts, whose windows the codec decides."""
        media = self.train.media
        return () if isinstance(media, Documents) else tuple(map(int, media.shape[1:]))

    @property
    def paired(self) -> bool:
        """Whether each text has a source that it is to be made from."""
        return self.train.sources is not None

    def summary(self) -> dict[str, Any]:
        """What there is to say of the dataset, ready for JSON: counts, sizes, classes, fingerprint, licence, notes.

        `classes` maps each class's name to its number of pictures or texts in each split.
        """
        return {
            "name": self.name,
            "counts": {"train": len(self.train), "heldout": len(self.heldout)},
            **(_texts(self) if self.train.noun == "text" else _pictures(self)),
            "classes": _class_counts(self),
            "fingerprint": self.fingerprint,
            "licence": self.licence,
            "source": self.source,
            "notes": list(self.notes),
        }


def _kind(split: Split) -> str:
    if isinstance(split.media, Documents):
        return "texts" if split.sources is None else "texts with sources"
    return f"pictures of shape {split.media.shape[1:]}"


def _pictures(dataset: Dataset) -> dict[str, Any]:
    captions = dataset.train.captions is not None
    return {"shape": list(dataset.shape), "captions": captions, "flip": dataset.flip}


def _texts(dataset: Dataset) -> dict[str, Any]:
    sides = {"train": dataset.train.texts, "heldout": dataset.heldout.texts}
    return {
        "characters": {side: texts.characters() for side, texts in sides.items()},
        "bytes": {side: len(texts.data) for side, texts in sides.items()},
        "longest_bytes": max(int(texts.lengths().max()) for texts in sides.values()),
        "paired": dataset.paired,
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
    """The sha256 (hex) of what training sees: options, class names, media, labels, captions and sources of both splits.

    `options` must hold no path and nothing else that differs between machines.
    """
    digest = hashlib.sha256(_json(["carrara-data-1", dict(options), classes]))
    for split in (train, heldout):
        for part in _content(split):
            digest.update(part)
    return digest.hexdigest()


def _content(split: Split) -> Iterator[bytes | memoryview]:
    if isinstance(split.media, Documents):
        yield _json(["texts", len(split), split.captions, split.sources is not None])
    else:
        yield _json([split.media.shape, split.captions])
    yield split.labels.astype("<i8").tobytes()
    for documents in (split.media, split.sources):
        if isinstance(documents, Documents):
            yield documents.ends.astype("<i8").tobytes()
            yield documents.data.data
    if not isinstance(split.media, Documents):
        yield from (rows.data for rows in _rows(split.media))


def _rows(media: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(media), _ROWS_AT_ONCE):
        yield np.ascontiguousarray(media[start : start + _ROWS_AT_ONCE])


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode("ascii")
