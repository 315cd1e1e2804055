"""Anybody's own texts: a file or a folder of .txt in UTF-8, or of .jsonl with a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from carrara.data.cache import About, stamp
from carrara.data.cache import key as cache_key
from carrara.data.dataset import Dataset
from carrara.data.scan import walk
from carrara.data.text import blocks, rank, read_utf8, sides
from carrara.data.text_cache import TextStaging, cached_texts
from carrara.errors import DataError, InputError

Unit = Literal["paragraph", "line", "file"]
_SUFFIXES = (".txt", ".jsonl")


@dataclass(frozen=True)
class _Cut:
    """How files become texts."""

    unit: Unit
    key: str
    source: str | None


def texts(
    path: Path, unit: Unit = "paragraph", key: str = "text", source: str | None = None, heldout: float = 0.05
) -> Dataset:
    """The texts of a .txt or .jsonl file, or of all of them below a folder, sorted by path.

    unit: what one text of a .txt file is: a paragraph (blank lines between), a line, or the whole file. key: where the text
    stands in each object of a .jsonl file; source: where its source stands, for pairs. heldout: the share held out, by a
    hash of each object, or in .txt files of each block of 4096 characters in a row, so that neighbours lie on one side.
    Blank texts are left out.

    Raises InputError on an option out of range, DataError naming the file and line that cannot be used.
    """
    cut = _checked(unit, key, source, heldout)
    root = Path(path).expanduser()
    files = _files(root)
    if source is not None and any(file.suffix == ".txt" for file in files):
        raise InputError(f"source: {source!r} is a key of .jsonl files, and {root} holds .txt files: leave them out.")

    def build(staging: TextStaging) -> None:
        chosen = sides([rank("\n".join(text for text, _ in block)) for block in _blocks(files, cut)], heldout)
        if len(chosen) < 2:
            raise DataError(_short(root, cut))
        for held, block in zip(chosen, _blocks(files, cut), strict=True):
            for text, other in block:
                staging.add(held, text, source=other)
        staging.finish(_about(root, cut, heldout))

    options = {**vars(cut), "heldout": heldout, "root": root.resolve()}
    stamps = ((file.relative_to(root).as_posix(), *stamp(file)[1:]) for file in files)
    return cached_texts(cache_key("texts", options, stamps), build, paired=source is not None)


def _checked(unit: Unit, key: str, source: str | None, heldout: float) -> _Cut:
    if unit not in ("paragraph", "line", "file"):
        raise InputError(f"unit: {unit!r} is not allowed: give paragraph, line or file.")
    if not 0 < heldout < 1:
        raise InputError(f"heldout: {heldout} is no share of the texts: give a number between 0 and 1, such as 0.05.")
    return _Cut(unit, key, source)


def _files(root: Path) -> list[Path]:
    """The files to read, sorted. Raises DataError when there is none."""
    if root.is_file():
        if root.suffix.lower() not in _SUFFIXES:
            raise DataError(f"{root} ends in {root.suffix or 'nothing'}; files of texts end in .txt or .jsonl.")
        return [root]
    if not root.is_dir():
        raise DataError(f"{root} does not exist. Give `path:` a .txt or .jsonl file, or a folder of them.")
    found = sorted(file for file in walk(root) if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise DataError(f"{root} holds no text: no file in it ends in .txt or .jsonl.")
    return found


def _short(root: Path, cut: _Cut) -> str:
    return (
        f"{root} holds too little text: two texts are the least, one to train on and one to hold out, and a text is a "
        f"{cut.unit} of a .txt file or an object of a .jsonl file. Add some, or choose a smaller unit: paragraph, line."
    )


def _about(root: Path, cut: _Cut, heldout: float) -> About:
    return About(
        name=root.resolve().stem,
        options={"kind": "texts", "unit": cut.unit, "heldout": heldout},
        classes=(),
        licence="unknown: whatever its texts are under",
        source=str(root),
    )


def _blocks(files: list[Path], cut: _Cut) -> Iterator[list[tuple[str, str]]]:
    """(text, source) of texts that stay together. A lone block is taken apart, so that something can be held out."""
    found = _whole_blocks(files, cut)
    first, second = next(found, []), next(found, None)
    if second is None:
        yield from ([pair] for pair in first)
        return
    yield first
    yield second
    yield from found


def _whole_blocks(files: list[Path], cut: _Cut) -> Iterator[list[tuple[str, str]]]:
    for file in files:
        if file.suffix.lower() == ".jsonl":
            yield from ([pair] for pair in _objects(file, cut))
        else:
            yield from ([(text, "") for text in block] for block in blocks(_units(read_utf8(file), cut.unit)))


def _units(text: str, unit: Unit) -> Iterator[str]:
    """The texts of a .txt file that are not blank."""
    if unit == "file":
        yield from [text.strip("\n")] if text.strip() else []
        return
    gathered: list[str] = []
    for line in StringIO(text):
        if line.strip():
            gathered.append(line.rstrip("\n"))
        if gathered and (unit == "line" or not line.strip()):
            yield "\n".join(gathered)
            gathered = []
    if gathered:
        yield "\n".join(gathered)


def _objects(file: Path, cut: _Cut) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(StringIO(read_utf8(file)), start=1):
        if line.strip():
            row = _object(file, number, line)
            text = _value(file, number, row, cut.key)
            if text.strip():
                yield text, "" if cut.source is None else _value(file, number, row, cut.source)


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file} line {number} is no JSON: {error}. Write one object a line.") from error
    if not isinstance(row, dict):
        raise DataError(f'{file} line {number} is no JSON object. Write {{"text": "…"}}, one a line.')
    return row


def _value(file: Path, number: int, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(
            f"{file} line {number} has no text under {name!r}; its keys are {', '.join(map(str, row)) or 'none'}. "
            "Name the right one with `key:`, or `source:` for the source of a pair."
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{file} line {number} holds half a surrogate pair under {name!r}: {error}. Mend it."
        ) from error
    return value
