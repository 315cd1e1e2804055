"""A folder of pictures as a set to be measured: every picture below it, in the order of their names, at one size.

A figure is of the pictures it names. So nothing is resized that was not asked for, what cannot be read is named and
counted, and no more than a small share of it is passed over. Transparency is shown on white, 16-bit grey scaled, EXIF
orientation obeyed, and of an animation the first frame taken, as in training (`carrara.data.folder`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from carrara.data.pictures import Crop, Damaged, Fit, Picture, TooSmall, decode, quiet, whole
from carrara.data.scan import Found, survey
from carrara.errors import DataError, InputError
from carrara.evaluation.inputs import Counter, Progress

log = logging.getLogger(__name__)

UNREADABLE = 0.01
BLOCK = 32
NAMED = 5
"""Files of a kind that a sentence names."""


@dataclass(frozen=True)
class Reading:
    """How pictures are read: at their own size, or each brought to `size` x `size` (see `carrara.data.pictures.Fit`)."""

    channels: Literal[1, 3] = 3
    size: int | None = None
    crop: Crop = "center"
    upscale: bool = False

    def __call__(self, path: Path) -> Picture | Damaged | TooSmall:
        """The picture in a file, or what is wrong with it."""
        if self.size is None:
            return whole(path, self.channels)
        return decode(path, Fit(self.size, self.channels, self.crop, self.upscale))


@dataclass(frozen=True)
class PictureFolder:
    """The readable pictures of a folder; slices of it are read when asked for, uint8 (B, *shape)."""

    root: Path
    shape: tuple[int, int, int]
    files: tuple[Found, ...]
    skipped: tuple[str, ...]
    """Names of the files that cannot be read."""
    reading: Reading = field(repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some of the pictures, uint8 (B, C, H, W). Raises DataError where a file has changed since it was first read."""
        files = self.files[rows]
        media = np.empty((len(files), *self.shape), np.uint8)
        for place, file, found in zip(media, files, _read(files, self.reading), strict=True):
            if not isinstance(found, Picture) or found.media.shape != self.shape:
                raise DataError(
                    f"{file.path} has changed while it was being measured. Measure again when it is at rest."
                )
            place[:] = found.media
        return torch.from_numpy(media)


def picture_folder(
    path: Path,
    *,
    size: int | None = None,
    channels: Literal[1, 3] = 3,
    crop: Crop = "center",
    upscale: bool = False,
    unreadable: float = UNREADABLE,
    progress: Progress | None = None,
) -> PictureFolder:
    """The pictures below a folder, after every file was read once to see that it can be; BLOCK are in memory.

    size: None keeps them as they are, and all must be of one size; otherwise each becomes size x size with `crop`
    ("center" keeps the middle square, "squash" loses proportions), by Pillow's Lanczos filter; `upscale` allows
    enlarging. unreadable: the share of files that may be passed over, with a warning. Progress counts files.
    Raises InputError on an option out of range, DataError on a folder or files that cannot be used.
    """
    reading = _reading(size, channels, crop, upscale, unreadable)
    root = Path(path).expanduser()
    found = survey(root).files
    tried = _Tried()
    counter = Counter(len(found), progress)
    for file, result in zip(found, _read(found, reading), strict=True):
        tried.take(file, result)
        counter.advance(1)
    tried.check(root, len(found), reading, unreadable)
    return PictureFolder(root, next(iter(tried.shapes)), tuple(tried.files), tuple(tried.unread), reading)


def _reading(size: int | None, channels: Literal[1, 3], crop: Crop, upscale: bool, unreadable: float) -> Reading:
    if size is not None and size < 1:
        raise InputError(f"pictures of size {size} cannot be had: give the side of the square in pixels, 1 or more.")
    if channels not in (1, 3) or crop not in ("center", "squash"):
        raise InputError(
            f"channels {channels!r} and crop {crop!r} cannot be had: channels are 1 or 3, crop is center or squash."
        )
    if not 0 <= unreadable < 1:
        raise InputError(f"a share of {unreadable} unreadable files is none: give a number from 0 to below 1.")
    return Reading(channels, size, crop, upscale)


@dataclass
class _Tried:
    """What came of reading every file once."""

    files: list[Found] = field(default_factory=list)
    shapes: dict[tuple[int, int, int], list[str]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    small: list[str] = field(default_factory=list)

    def take(self, file: Found, result: Picture | Damaged | TooSmall) -> None:
        if isinstance(result, Damaged):
            self.unread[file.name] = result.reason
        elif isinstance(result, TooSmall):
            self.small.append(f"{file.name} ({result.width} x {result.height})")
        else:
            self.files.append(file)
            channels, height, width = result.media.shape
            self.shapes.setdefault((channels, height, width), []).append(file.name)

    def check(self, root: Path, total: int, reading: Reading, unreadable: float) -> None:
        self._check_unread(root, total, unreadable)
        if self.small:
            raise DataError(
                f"{len(self.small)} of {total} pictures in {root} are smaller than {reading.size} x {reading.size}: "
                f"{_listed(self.small)}. Give a smaller size, or allow upscaling."
            )
        if len(self.shapes) > 1:
            raise DataError(
                f"the pictures in {root} have {len(self.shapes)} different sizes: {self._sizes()}. "
                "Give a size to bring them to, or leave out those of another size."
            )

    def _check_unread(self, root: Path, total: int, unreadable: float) -> None:
        if not self.unread:
            return
        first, *others = self.unread
        named = _listed([f"{first} ({self.unread[first]})", *others])
        said = f"{len(self.unread)} of {total} files in {root} cannot be read: {named}."
        if len(self.unread) == total or len(self.unread) > unreadable * total:
            raise DataError(
                f"{said} At most {unreadable:.3g} of them may be passed over. Repair or remove them, or raise that share."
            )
        log.warning("%s They are passed over.", said)

    def _sizes(self) -> str:
        ranked = sorted(self.shapes.items(), key=lambda item: -len(item[1]))
        words = [f"{len(names)} of {width} x {height} (such as {names[0]})" for (_, height, width), names in ranked]
        return _listed(words)


def _read(files: Sequence[Found], reading: Reading) -> Iterator[Picture | Damaged | TooSmall]:
    """The files' pictures, in their order. Pillow lets go of the interpreter while it decodes; blocks bound memory."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), BLOCK):
            # Not around the yield: the filters of warnings are everybody's.
            with quiet():
                block = list(pool.map(lambda file: reading(file.path), files[start : start + BLOCK]))
            yield from block


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:NAMED], "…"] if len(names) > NAMED else names)
