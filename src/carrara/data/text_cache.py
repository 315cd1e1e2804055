"""Texts kept in the cache as pictures are: read once, then memory-mapped, whole or not there.

<cache>/datasets/<key>/train.npy       train-ends.npy           the bytes of all texts, and where each ends
                       train-labels.npy                         int64 (N,)
                       train-sources.npy  train-source-ends.npy of paired texts
                       heldout…                                 the same
                       meta.json                                all else, written last
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carrara.data.cache import About, kept, read_meta, restored, write_meta
from carrara.data.dataset import Dataset, Split, fingerprint
from carrara.data.documents import Documents
from carrara.data.growing import Growing, mapped
from carrara.errors import DataError
from carrara.files import cache_dir

_SIDES = ("train", "heldout")
_FLUSH_BYTES = 1 << 20


class TextStaging:
    """A dataset of texts being written: texts are appended to either split, straight to disk."""

    def __init__(self, folder: Path, paired: bool) -> None:
        self._folder, self.paired = folder, paired
        self._sides = tuple(_Side(folder, name, paired) for name in _SIDES)

    def add(self, heldout: bool, text: str, label: int = 0, source: str = "") -> None:
        """Append one text, with its label, and its source where texts are paired."""
        self._sides[heldout].add(text, label, source)

    def finish(self, about: About, notes: Iterable[str] = ()) -> None:
        """Close the arrays and write meta.json, after which the folder is whole. Raises DataError on an empty split."""
        for side in self._sides:
            if not len(side):
                raise DataError(
                    f"no {side.name} text is left in the dataset {about.name}: give more texts, two at least, one to train "
                    "on and one to hold out."
                )
        splits = [side.finish() for side in self._sides]
        write_meta(
            self._folder,
            {
                **vars(about),
                "notes": list(notes),
                "fingerprint": fingerprint(about.options, about.classes, *splits),
                "paired": self.paired,
            },
        )

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for side in self._sides:
            side.close()


class _Side:
    def __init__(self, folder: Path, name: str, paired: bool) -> None:
        self.name = name
        self.texts = _Run(folder / f"{name}.npy", folder / f"{name}-ends.npy")
        self.sources = _Run(folder / f"{name}-sources.npy", folder / f"{name}-source-ends.npy") if paired else None
        self.path, self.labels = folder / f"{name}-labels.npy", list[int]()

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, text: str, label: int, source: str) -> None:
        self.texts.add(text)
        self.labels.append(label)
        if self.sources is not None:
            self.sources.add(source)

    def finish(self) -> Split:
        labels = Growing(self.path, np.int64)
        labels.add(np.array(self.labels, dtype=np.int64))
        sources = None if self.sources is None else self.sources.finish()
        return Split(self.texts.finish(), labels.finish(), None, sources)

    def close(self) -> None:
        self.texts.close()
        if self.sources is not None:
            self.sources.close()


class _Run:
    """Texts growing into two files; gathered until they are worth a write."""

    def __init__(self, data: Path, ends: Path) -> None:
        self.data, self.ends = Growing(data, np.uint8), Growing(ends, np.int64)
        self._raw, self._new, self._end = bytearray(), list[int](), 0

    def add(self, text: str) -> None:
        raw = text.encode("utf-8")
        self._raw += raw
        self._end += len(raw)
        self._new.append(self._end)
        if len(self._raw) >= _FLUSH_BYTES:
            self._write()

    def _write(self) -> None:
        self.data.add(np.frombuffer(bytes(self._raw), np.uint8))
        self.ends.add(np.array(self._new, dtype=np.int64))
        self._raw, self._new = bytearray(), []

    def finish(self) -> Documents:
        self._write()
        return Documents(self.data.finish(), self.ends.finish())

    def close(self) -> None:
        self.data.close()
        self.ends.close()


def cached_texts(name: str, build: Callable[[TextStaging], None], paired: bool = False) -> Dataset:
    """The texts kept under the key `name`; `build` is called to write them where they are absent or damaged.

    Raises whatever `build` raises, and RunError when the cache folder cannot be written.
    """

    def fill(folder: Path) -> None:
        staging = TextStaging(folder, paired)
        try:
            build(staging)
        finally:
            staging.close()

    return kept(cache_dir() / "datasets" / name, fill, _read)


def _read(place: Path) -> Dataset:
    body = read_meta(place)
    train, heldout = (_split(place, side, body) for side in _SIDES)
    return restored(body, train, heldout)


def _split(place: Path, side: str, body: Mapping[str, Any]) -> Split:
    sources = (
        Documents(mapped(place / f"{side}-sources.npy"), mapped(place / f"{side}-source-ends.npy"))
        if body["paired"]
        else None
    )
    texts = Documents(mapped(place / f"{side}.npy"), mapped(place / f"{side}-ends.npy"))
    return Split(texts, mapped(place / f"{side}-labels.npy"), None, sources)
