"""Datasets decoded once: a folder of memory-mapped .npy files under a key, whole or absent, never half there.

    <cache>/datasets/<key>/train.npy  heldout.npy     uint8 (N, C, H, W); texts have other files, see text_cache.py
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
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from carrara import __version__
from carrara.data.dataset import Dataset, Split, fingerprint
from carrara.data.growing import Growing, flush
from carrara.errors import DataError, RunError
from carrara.files import cache_dir

log = logging.getLogger(__name__)

T = TypeVar("T")

_FORMAT = 1
STAGING = ".staging-"
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
        write_meta(self._folder, body)

    def close(self) -> None:
        """Let go of the files, finished or not."""
        for side in self._sides:
            side.media.close()


class _Side:
    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path = path
        self.labels: list[int] = []
        self.captions: list[str] = []
        self.media = Growing(path, np.uint8, shape)

    def add(self, media: npt.NDArray[np.uint8], labels: Sequence[int], captions: Sequence[str] | None) -> None:
        self.media.add(media)
        self.labels.extend(int(label) for label in labels)
        self.captions.extend(captions or ())

    def finish(self) -> Split:
        captions = tuple(self.captions) if self.captions else None
        return Split(self.media.finish(), np.array(self.labels, dtype=np.int64), captions)


def cached(name: str, shape: tuple[int, int, int], build: Callable[[Staging], None]) -> Dataset:
    """The pictures kept under the key `name`; `build` is called to write them where they are absent or damaged.

    Raises whatever `build` raises, and RunError when the cache folder cannot be written.
    """

    def fill(folder: Path) -> None:
        staging = Staging(folder, shape)
        try:
            build(staging)
        finally:
            staging.close()

    return kept(cache_dir() / "datasets" / name, fill, _read)


def kept(place: Path, fill: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """What `read` finds in the folder `place`, which `fill` writes where it is absent or `read` raises anything at all.

    `fill` is given an empty folder, renamed to `place` once it returns. Raises whatever `fill` raises, and RunError
    when the folder cannot be written or is damaged every time.
    """
    for _ in range(_ATTEMPTS):
        if (found := _open(place, read)) is not None:
            return found
        try:
            _write(place, fill, read)
        except OSError as error:
            raise RunError(
                f"the cache folder {place.parent} cannot be written: {error}. Make room or allow writing there, or "
                f"set CARRARA_CACHE to another folder."
            ) from error
    raise RunError(
        f"what was written into {place} was damaged {_ATTEMPTS} times in a row. Check the disk, or set "
        f"CARRARA_CACHE to a folder on another one."
    )


def _open(place: Path, read: Callable[[Path], T]) -> T | None:
    if not place.is_dir():
        return None
    try:
        return read(place)
    # A damaged file makes its reader raise nearly anything; whatever it is, the answer is to make it again.
    except Exception as error:
        log.warning("the cache's %s is damaged (%s): making it again", place, error)
        return None


def _write(place: Path, fill: Callable[[Path], None], read: Callable[[Path], Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    with staging_folder(place.parent) as folder:
        fill(folder)
        install(folder, place, lambda: _open(place, read) is not None)


def write_meta(folder: Path, body: Mapping[str, Any]) -> None:
    """Writes meta.json, with its own hash; when it is there, the folder is whole."""
    with (folder / "meta.json").open("w", encoding="ascii") as file:
        json.dump({"check": _check(body), "body": body}, file)
        flush(file)


def read_meta(folder: Path) -> dict[str, Any]:
    """The body of meta.json. Raises ValueError when it does not match its hash."""
    meta = json.loads((folder / "meta.json").read_text(encoding="ascii"))
    body: dict[str, Any] = meta["body"]
    if meta["check"] != _check(body):
        raise ValueError("meta.json does not match its hash")
    return body


def restored(body: Mapping[str, Any], train: Split, heldout: Split) -> Dataset:
    """The dataset of these splits and of the body of its meta.json. Raises ValueError for another fingerprint."""
    classes = tuple(body["classes"])
    if fingerprint(body["options"], classes, train, heldout) != body["fingerprint"]:
        raise ValueError("the data does not match its fingerprint")
    kept = {word: body[word] for word in ("name", "fingerprint", "licence", "source", "flip")}
    return Dataset(classes=classes, train=train, heldout=heldout, notes=tuple(body["notes"]), **kept)


def _read(place: Path) -> Dataset:
    body = read_meta(place)
    train, heldout = (
        _split(place / file, split) for file, split in zip(("train.npy", "heldout.npy"), body["splits"], strict=True)
    )
    return restored(body, train, heldout)


def _split(path: Path, kept: dict[str, Any]) -> Split:
    captions = kept["captions"]
    return Split(
        np.load(path, mmap_mode="r"),
        np.array(kept["labels"], dtype=np.int64),
        None if captions is None else tuple(captions),
    )


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A fresh folder inside `parent`, gone at the end unless it was renamed."""
    # Not tempfile.mkdtemp: it would keep a cache that several users share readable by one alone.
    folder = parent / f"{STAGING}{uuid.uuid4().hex}"
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
    for folder in parent.glob(f"{STAGING}*"):
        try:
            stale = time.time() - folder.stat().st_mtime > _STALE_S
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(folder, ignore_errors=True)


def _check(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()
