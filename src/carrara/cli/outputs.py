"""Where results go: checked before the work is begun, so that no work is done for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from carrara.errors import InputError

PICTURES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pdf", ".png", ".svg", ".tif", ".tiff", ".webp"}
FILES = frozenset({*PICTURES, ".csv", ".html", ".json", ".jsonl", ".md", ".txt"})
"""Suffixes that would be mistaken for the name of a folder."""


def fresh_file(path: Path, option: str, suffix: str, overwrite: bool) -> Path:
    """The path of a file that can be written. Raises InputError for another suffix, a file that exists, a bad folder."""
    if path.suffix.lower() != suffix:
        raise InputError(f"{option} {path}: the name must end with {suffix}")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise InputError(f"{option} {path} exists; choose another name, or replace it with --overwrite")
    _writable(path.parent, path, option)
    return path


def fresh_folder(path: Path, option: str, overwrite: bool, files: Sequence[str]) -> Path:
    """The path of a folder that can be written into. Raises InputError where it holds something or cannot be made.

    `files`: the endings of the single files that may be given in its place, for the sentence about other endings.
    """
    if path.suffix.lower() in FILES:
        raise InputError(
            f"{option} {path}: give a name that ends with {' or '.join(files)} for one file, or a folder for a file each"
        )
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"{option} {path} exists and is not empty; choose another name, or add --overwrite")
    _writable(path, path, option)
    return path


def free_file(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, … that does not exist."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(other for other in others if not other.exists())


def _writable(folder: Path, path: Path, option: str) -> None:
    from carrara.files import writable_folder

    try:
        writable_folder(folder)
    except InputError as error:
        reason = getattr(error.__cause__, "strerror", None) or "it cannot be written"
        raise InputError(f"{option} {path}: cannot write into {folder} ({reason}); choose another place") from error
