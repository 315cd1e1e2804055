"""Captions of a folder of pictures, from metadata.jsonl or metadata.csv as Hugging Face's imagefolder has them."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from carrara.data.scan import METADATA
from carrara.errors import DataError

Row = tuple[str, dict[str, Any]]


def metadata_file(root: Path) -> Path | None:
    """The folder's metadata file, if it has one. Raises DataError when it has both kinds."""
    found = [root / name for name in METADATA if (root / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{root} has both {' and '.join(METADATA)}: keep one of them.")
    return found[0] if found else None


def captions(file: Path, names: Collection[str]) -> dict[str, str]:
    """Picture name -> caption, from the columns file_name and text of each row; an absent or null text is "".

    `names` are the pictures there are. Raises DataError, naming file and line, on a row that cannot be read, names
    no picture or names one twice.
    """
    found: dict[str, str] = {}
    for place, row in _rows(file):
        name = _name(place, row)
        if name not in names:
            raise DataError(
                f"{place} names {row['file_name']}, which is not among the pictures in {file.parent}. Put the picture "
                f"there or remove the row; file_name is relative to the metadata file."
            )
        if name in found:
            raise DataError(f"{place} names {name} a second time: keep one row for each picture.")
        found[name] = _text(place, row)
    return found


def _name(place: str, row: dict[str, Any]) -> str:
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{place} has no file_name; its columns are {', '.join(map(str, row)) or 'none'}. Add it.")
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def _text(place: str, row: dict[str, Any]) -> str:
    if "text" not in row:
        raise DataError(
            f"{place} has no column text; its columns are {', '.join(map(str, row))}. Call the caption text."
        )
    text = row["text"]
    if text is not None and not isinstance(text, str):
        raise DataError(f"{place} has the text {text!r}: a caption is a string or null.")
    return text or ""


def _rows(file: Path) -> Iterator[Row]:
    read = _json_rows if file.suffix == ".jsonl" else _csv_rows
    try:
        # Spreadsheets put a byte-order mark before UTF-8; utf-8-sig reads both.
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from read(file, lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}. Save it again as UTF-8 text.") from error


def _json_rows(file: Path, lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{file} line {number}", _object(f"{file} line {number}", line)


def _object(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is no JSON: {error}. Write one object a line.") from error
    if not isinstance(row, dict):
        raise DataError(f'{place} is no JSON object. Write {{"file_name": "cat.png", "text": "a cat"}}, one a line.')
    return row


def _csv_rows(file: Path, lines: Iterator[str]) -> Iterator[Row]:
    reader = csv.DictReader(lines)
    for row in reader:
        yield f"{file} line {reader.line_num}", row
