"""Datasets decoded once: a folder of memory-mapped .npy files under a key, whole or absent, never half there.

    <cache>/datasets/<key>/train.npy  heldout.npy     uint8 (N, C, H, W)
                           meta.json                  all else, written last, with its own hash and the fingerprint

A dataset is decoded into a staging folder beside its place, flushed to disk and renamed: a kill at any moment leaves
at worst a staging folder, which a later build sweeps away, and of two processes that build at once one wins and both
read its files. Opening recomputes the fingerprint, so a damaged file is found and the dataset decoded again.

The key is of the dataset's kind and options, the versions of carrara and of what decodes, and each file's relative
path, size and time of change: cheap to compute without reading a picture, which matters for folders of many
thousands. The price: a file replaced by another of equal size and equal nanosecond goes unseen; `touch` it or delete
the cache. The fingerprint is of the content itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from carrara import __version__
from carrara.data.dataset import Dataset, Split, fingerprint
from carrara.errors import DataError, RunError
from carrara.files import cache_dir

log = logging.getLogger(__name__)

_FORMAT = 1
_STAGING = ".staging-"
_STALE_S = 7 * 24 * 3600
_ATTEMPTS = 3


@dataclass(frozen=True)
class About:
    """All that is known of a dataset before its pictures are decoded; `options` as for `dataset.fingerprint`."""

    name: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    licence: str
    source: str
    flip: bool = False


def key(kind: str, options: Mapping[str, object], files: Iterable[tuple[str, int, int]]) -> str:
    """The name under which a dataset is kept: sha256 (hex) of kind, options and (relative path, bytes, mtime in ns)."""
    digest = hashlib.sha256(
        json.dumps([_FORMAT, __version__, kind, options], sort_keys=True, default=str).encode("ascii")
    )
    for entry in files:
        digest.update(json.dumps(entry).encode("ascii"))
    return digest.hexdigest()[:32]


def stamp(path: Path) -> tuple[str, int, int]:
    """(name, size in bytes, time of change in nanoseconds) of one file, for `key`."""
    state = path.stat()
    return path.name, state.st_size, state.st_mtime_ns


class Staging:
    """A dataset being written: pictures are appended to either split, block by block, straight to disk."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self._sides = tuple(_Side(folder / name, shape) for name in ("train.npy", "heldout.npy"))
        self._folder = folder

    def add(
        self,
        heldout: bool,
        media: npt.NDArray[np.uint8],
        labels: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> None:
        """Append pictures, uint8 (n, C, H, W), with a label each and a caption each or none at all."""
        self._sides[heldout].add(media, labels, captions)

    def finish(self, about: About, notes: Iterable[str] = ()) -> None:
        """Close the arrays and write meta.json, after which the folder is whole. Raises DataError on an empty split."""
        for side in self._sides:
            if not side.labels:
                raise DataError(
                    f"no {side.path.stem} picture is left in the dataset {about.name}: give more pictures."
                )
        splits = [side.finish() for side in self._sides]
        body = {
            **vars(about),
            "notes": list(notes),
            "fingerprint": fingerprint(about.options, about.classes, *splits),
            "splits": [{"labels": split.labels.tolist(), "captions": split.captions} for split in splits],
        }
        with (self._folder / "meta.json").open("w", encoding="ascii") as file:
            json.dump({"check": _check(body), "body": body}, file)
            _flush(file)

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for side in self._sides:
            side.file.close()


class _Side:
    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape
        self.labels: list[int] = []
        self.captions: list[str] = []
        self.file = path.open("wb")
        self._header()

    def _header(self) -> None:
        # numpy pads its header so that the first dimension can grow in place: it is written again at the end.
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(self.labels), *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def add(self, media: npt.NDArray[np.uint8], labels: Sequence[int], captions: Sequence[str] | None) -> None:
        self.file.write(np.ascontiguousarray(media, dtype=np.uint8).tobytes())
        self.labels.extend(int(label) for label in labels)
        self.captions.extend(captions or ())

    def finish(self) -> Split:
        self.file.seek(0)
        self._header()
        _flush(self.file)
        self.file.close()
        return Split(
            np.load(self.path, mmap_mode="r"),
            np.array(self.labels, dtype=np.int64),
            tuple(self.captions) if self.captions else None,
        )


def cached(name: str, shape: tuple[int, int, int], build: Callable[[Staging], None]) -> Dataset:
    """The dataset kept under the key `name`; `build` is called to write it where it is absent or damaged.

    Raises whatever `build` raises, and RunError when the cache folder cannot be written.
    """
    place = cache_dir() / "datasets" / name
    for _ in range(_ATTEMPTS):
        if dataset := _open(place):
            return dataset
        try:
            _write(place, shape, build)
        except OSError as error:
            raise RunError(
                f"the cache folder {place.parent} cannot be written: {error}. Make room or allow writing there, or "
                f"set CARRARA_CACHE to another folder."
            ) from error
    raise RunError(
        f"the dataset decoded into {place} was damaged {_ATTEMPTS} times in a row. Check the disk, or set "
        f"CARRARA_CACHE to a folder on another one."
    )


def _open(place: Path) -> Dataset | None:
    if not place.is_dir():
        return None
    try:
        return _read(place)
    # A damaged file makes its reader raise nearly anything; whatever it is, the answer is to decode again.
    except Exception as error:
        log.warning("the cached dataset %s is damaged (%s): decoding it again", place, error)
        return None


def _read(place: Path) -> Dataset:
    meta = json.loads((place / "meta.json").read_text(encoding="ascii"))
    body = meta["body"]
    if meta["check"] != _check(body):
        raise ValueError("meta.json does not match its hash")
    train, heldout = (
        _split(place / file, split) for file, split in zip(("train.npy", "heldout.npy"), body["splits"], strict=True)
    )
    classes = tuple(body["classes"])
    if fingerprint(body["options"], classes, train, heldout) != body["fingerprint"]:
        raise ValueError("the pictures do not match their fingerprint")
    kept = {word: body[word] for word in ("name", "fingerprint", "licence", "source", "flip")}
    return Dataset(classes=classes, train=train, heldout=heldout, notes=tuple(body["notes"]), **kept)


def _split(path: Path, kept: dict[str, Any]) -> Split:
    captions = kept["captions"]
    return Split(
        np.load(path, mmap_mode="r"),
        np.array(kept["labels"], dtype=np.int64),
        None if captions is None else tuple(captions),
    )


def _write(place: Path, shape: tuple[int, int, int], build: Callable[[Staging], None]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    with staging_folder(place.parent) as folder:
        staging = Staging(folder, shape)
        try:
            build(staging)
        finally:
            staging.close()
        install(folder, place, lambda: _open(place) is not None)


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A fresh folder inside `parent`, gone at the end unless it was renamed."""
    # Not tempfile.mkdtemp: it would keep a cache that several users share readable by one alone.
    folder = parent / f"{_STAGING}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(folder: Path, place: Path, whole: Callable[[], bool]) -> None:
    """Rename `folder` to `place`; where another process was faster and its result is whole, that one stays."""
    try:
        folder.rename(place)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if not whole():
        # Another process may be replacing the same damaged folder: whichever rename comes last, a whole one stands.
        with staging_folder(place.parent) as trash, suppress(FileNotFoundError, FileExistsError):
            place.rename(trash / "damaged")
            folder.rename(place)


def sweep(parent: Path) -> None:
    """Delete what killed builds left in `parent`; a folder younger than a week may belong to a living one."""
    for folder in parent.glob(f"{_STAGING}*"):
        try:
            stale = time.time() - folder.stat().st_mtime > _STALE_S
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _check(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()


def _flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
