"""Files that are whole or not there: staged, flushed to the disk, renamed, with their hashes written last."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from carrara.errors import DamagedFile, InputError, NoRoom

MANIFEST = "manifest.json"


def cache_dir() -> Path:
    """The folder of everything carrara may delete and make again: CARRARA_CACHE, else the platform's own place."""
    if given := os.environ.get("CARRARA_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carrara"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "carrara" / "cache"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "carrara"


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Within, a disk that is full is told as NoRoom for this path."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoRoom(path) from error


def write(path: Path, content: str | bytes) -> None:
    """Writes a file at once or not at all: a reader sees the old content or the new. Raises NoRoom where the disk is full."""
    staging = path.with_name(f".{path.name}.{secrets.token_hex(4)}.staging")
    try:
        with room(path):
            staging.write_bytes(content.encode() if isinstance(content, str) else content)
            flush(staging)
            staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
    flush(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, indented, at once or not at all."""
    write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises DamagedFile where it is none."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DamagedFile(f"{path} is not readable as JSON ({error}); it is damaged") from error


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Makes the folder `path` from what `fill` writes into a staging folder beside it, a manifest of hashes last: of every file,
    those in folders inside it too.

    An existing `path` is replaced. Killed at any moment, `present(path)` is the old folder, the new one, or absent; never half. Of
    processes that write it at once, each waits for the one before. Raises NoRoom where the disk is full, and leaves nothing.
    """
    with room(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(path.parent):
            staging = path.with_name(f".{path.name}.staging")
            shutil.rmtree(staging, ignore_errors=True)
            try:
                _fill(staging, fill)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            _replace(staging, path)
            flush(path.parent)


def _fill(staging: Path, fill: Callable[[Path], None]) -> None:
    """The folder with its manifest, on the disk."""
    staging.mkdir()
    fill(staging)
    within = sorted(staging.rglob("*"))
    members = [p for p in within if p.is_file()]
    write_json(staging / MANIFEST, {"sha256": {p.relative_to(staging).as_posix(): sha256(p) for p in members}})
    for each in (*within, staging):
        flush(each)


def copy_folder(source: Path, path: Path) -> None:
    """Makes the folder `path`, as `write_folder` does, from what is in another that it made."""

    def copy(staging: Path) -> None:
        shutil.copytree(present(source), staging, dirs_exist_ok=True)
        (staging / MANIFEST).unlink()

    write_folder(path, copy)


def present(path: Path) -> Path:
    """The folder `path`, or where its replacement was cut off between two renames, the one it was to replace."""
    return path if path.exists() or not _old(path).exists() else _old(path)


def _replace(staging: Path, path: Path) -> None:
    if path.exists():
        shutil.rmtree(_old(path), ignore_errors=True)
        path.replace(_old(path))
    staging.replace(path)
    shutil.rmtree(_old(path), ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def check_folder(path: Path) -> None:
    """Raises DamagedFile, naming the file, unless every file is what the folder's manifest says."""
    if not (path / MANIFEST).is_file():
        raise DamagedFile(f"{path} has no {MANIFEST}: it was not written to its end")
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), dict):
        raise DamagedFile(f"{path / MANIFEST} is damaged: it holds no hashes")
    for name, expected in manifest["sha256"].items():
        if not (path / name).is_file():
            raise DamagedFile(f"{path / name} is missing, though {MANIFEST} lists it")
        if sha256(path / name) != expected:
            raise DamagedFile(f"{path / name} is damaged: its SHA-256 is not the one in {MANIFEST}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; a second one that asks is refused with InputError."""
    import fcntl

    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is in use by another carrara process; wait for it, end it, or choose another --out"
            ) from error
        yield


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Waits until nobody else holds the folder so; where the file system knows no locks, there is no waiting."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def writable_folder(path: Path) -> Path:
    """The folder, made if need be. Raises InputError where nothing can be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {path} ({error.strerror}); choose another folder with --out") from error
    return path
