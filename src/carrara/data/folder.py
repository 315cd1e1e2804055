"""Any folder of pictures: subfolders are classes, a metadata file brings captions, the split is by file name."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from carrara.data.cache import About, Staging, cached, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.metadata import captions, metadata_file
from carrara.data.pictures import Damaged, Fit, Picture, TooSmall, decode, quiet
from carrara.data.scan import Scan, labelled, listing, scan, sides, stamps
from carrara.errors import DataError, InputError

log = logging.getLogger(__name__)

_BLOCK = 256
_REPORT_EVERY_S = 2.0
_NAMED = 5
"""So many pictures without a caption are named."""


def folder(
    path: Path,
    size: int,
    channels: Literal[1, 3] = 3,
    crop: Literal["center", "squash"] = "center",
    flip: bool = False,
    heldout: float = 0.1,
    skip_damaged: bool = False,
    upscale: bool = False,
) -> Dataset:
    """The pictures below a folder, uint8 (N, channels, size, size); top-level subfolders are classes.

    crop: keep the middle square, or squash to a square; flip: mirror left-right in training; heldout: share held
    out, by a hash of each file's path inside the folder; skip_damaged: leave out files that cannot be decoded;
    upscale: enlarge pictures smaller than `size`. Captions come from metadata.jsonl or metadata.csv (file_name,
    text) in the folder; a picture without a row has the caption "". 16-bit grey is scaled, transparency shown on
    white, EXIF orientation obeyed, and of an animation the first frame taken.

    Raises InputError on an option out of range, DataError on a folder or file that cannot be used.
    """
    fit = _fit(size, channels, crop, upscale, heldout)
    found = scan(Path(path).expanduser())
    classes, labels = labelled(found)
    metadata = metadata_file(found.root)
    about = _about(found, fit, flip, heldout, classes)

    def build(staging: Staging) -> None:
        texts = captions(metadata, {file.name for file in found.files}) if metadata else None
        tally = _fill(staging, _Plan(found, fit, labels, sides(_names(found), heldout), texts))
        tally.check(found, fit, skip_damaged)
        staging.finish(about, tally.notes(found, texts))

    options = {
        **vars(fit),
        "flip": flip,
        "heldout": heldout,
        "skip_damaged": skip_damaged,
        "root": found.root.resolve(),
        "pillow": version("pillow"),
        "metadata": stamp(metadata) if metadata else None,
    }
    return cached(key("folder", options, stamps(found.files)), (channels, size, size), build)


def _fit(size: int, channels: Literal[1, 3], crop: Literal["center", "squash"], upscale: bool, heldout: float) -> Fit:
    if size < 1:
        raise InputError(f"pictures of size {size} cannot be had: give the side of the square in pixels, 1 or more.")
    if channels not in (1, 3):
        raise InputError(f"channels: {channels} is not allowed: give 1 for grey or 3 for colour.")
    if crop not in ("center", "squash"):
        raise InputError(
            f"crop: {crop!r} is not allowed: give center (keep the middle) or squash (lose proportions)."
        )
    if not 0 < heldout < 1:
        raise InputError(
            f"heldout: {heldout} is no share of the pictures: give a number between 0 and 1, such as 0.1."
        )
    return Fit(size, channels, crop, upscale)


def _about(found: Scan, fit: Fit, flip: bool, heldout: float, classes: tuple[str, ...]) -> About:
    # Neither path nor skip_damaged and upscale: they choose among files, and the content already shows the result.
    options = {"size": fit.size, "channels": fit.channels, "crop": fit.crop, "flip": flip, "heldout": heldout}
    return About(
        name=found.root.resolve().name,
        options={"kind": "folder", **options},
        classes=classes,
        licence="unknown: whatever its pictures are under",
        source=str(found.root),
        flip=flip,
    )


def _names(found: Scan) -> list[str]:
    return [file.name for file in found.files]


@dataclass(frozen=True)
class _Plan:
    found: Scan
    fit: Fit
    labels: Sequence[int]
    heldout: Sequence[bool]
    captions: dict[str, str] | None


@dataclass
class _Tally:
    """What was met while decoding."""

    damaged: list[tuple[str, str]] = field(default_factory=list)
    small: list[tuple[str, TooSmall]] = field(default_factory=list)
    animated: int = 0

    def check(self, found: Scan, fit: Fit, skip_damaged: bool) -> None:
        """Raises DataError on pictures too small, and on damaged ones unless they may be skipped."""
        if self.small:
            name, picture = self.small[0]
            raise DataError(
                f"{found.root / name} has {picture.width} x {picture.height} pixels, fewer than the {fit.size} asked"
                f"{_more(self.small)}. Give a smaller size, remove such pictures, or set upscale: true to enlarge them."
            )
        if self.damaged and not skip_damaged:
            name, reason = self.damaged[0]
            raise DataError(
                f"{found.root / name} cannot be decoded ({reason}){_more(self.damaged)}. Repair or remove such files, "
                f"or set skip_damaged: true to leave them out."
            )
        if len(self.damaged) == len(found.files):
            raise DataError(
                f"none of the {len(found.files)} pictures in {found.root} can be decoded. Is it the folder?"
            )

    def notes(self, found: Scan, texts: dict[str, str] | None) -> list[str]:
        """What the summary says of this folder beyond its counts."""
        notes = []
        if self.damaged:
            notes.append(f"skipped {_files(len(self.damaged), 'damaged file')}, the first {self.damaged[0][0]}")
        if self.animated:
            notes.append(f"{_files(self.animated, 'animated or multi-page picture')}: first frame used")
        if found.ignored:
            notes.append(f"ignored what is no picture: {listing(found.ignored)}")
        bare = [] if texts is None else [name for name in _names(found) if not texts.get(name, "").strip()]
        if bare:
            named = ", ".join([*bare[:_NAMED], *(["…"] if len(bare) > _NAMED else [])])
            notes.append(f"{_files(len(bare), 'picture')} without a caption: {named}")
        return notes


def _files(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _more(failures: Sequence[object]) -> str:
    return f"; {len(failures)} files in all are like it" if len(failures) > 1 else ""


def _fill(staging: Staging, plan: _Plan) -> _Tally:
    tally = _Tally()
    rows = zip(plan.found.files, plan.labels, plan.heldout, _decoded(plan), strict=True)
    with quiet():
        for file, label, heldout, result in rows:
            if isinstance(result, Damaged):
                tally.damaged.append((file.name, result.reason))
            elif isinstance(result, TooSmall):
                tally.small.append((file.name, result))
            else:
                texts = None if plan.captions is None else [plan.captions.get(file.name, "")]
                staging.add(heldout, result.media[None], [label], texts)
                tally.animated += result.animated
    return tally


def _decoded(plan: _Plan) -> Iterator[Picture | Damaged | TooSmall]:
    paths = [file.path for file in plan.found.files]
    reported = time.monotonic()
    # Pillow lets go of the interpreter while it decodes. Blocks bound what is in memory and how long a Ctrl-C waits.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _BLOCK):
            if time.monotonic() - reported > _REPORT_EVERY_S:
                log.info("decoding pictures: %d of %d", start, len(paths))
                reported = time.monotonic()
            yield from pool.map(lambda path: decode(path, plan.fit), paths[start : start + _BLOCK])
