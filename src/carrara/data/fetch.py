"""Fetch the Debian data packages into the cache, without root: `python -m carrara.data.fetch`, or `make data`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from carrara.data import fashion, gloss
from carrara.data.cache import install, staging_folder, sweep
from carrara.errors import CarraraError, RunError


class Packaged(Protocol):
    """A dataset's module whose files come as a Debian package."""

    PACKAGE: str
    SYSTEM: Path

    def installed(self, places: Iterable[Path] | None = None) -> Path | None:
        """The first folder that holds all its files."""
        ...

    def fetched(self) -> Path:
        """Where they are put."""
        ...


PACKAGED: tuple[Packaged, ...] = (fashion, gloss)


def main() -> int:
    """0 when the data is there at the end, else 1, with a sentence on standard error for each that is not."""
    return max([_told(data) for data in PACKAGED])


def _told(data: Packaged) -> int:
    try:
        sys.stdout.write(f"{data.PACKAGE}: {fetch(data)}\n")
    except CarraraError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def fetch(data: Packaged) -> Path:
    """The folder with a dataset's files, downloaded only when neither the system nor the cache has them.

    Raises RunError when apt is missing or fails.
    """
    if folder := data.installed():
        return folder
    _require_apt(data.PACKAGE)
    place = data.fetched()
    try:
        _fetch(data, place)
    except OSError as error:
        raise RunError(
            f"{data.PACKAGE} could not be put into {place}: {error}. Make room there or set CARRARA_CACHE to "
            f"another folder."
        ) from error
    return place


def _fetch(data: Packaged, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    sweep(place.parent)
    with staging_folder(place.parent) as work:
        _run(["dpkg-deb", "-x", _download(data.PACKAGE, work).name, "tree"], work)
        unpacked = work / "tree" / data.SYSTEM.relative_to("/")
        if data.installed([unpacked]) is None:
            raise RunError(f"the package {data.PACKAGE} no longer holds {data.SYSTEM} with its files.")
        install(unpacked, place, lambda: data.installed([place]) is not None)


def _require_apt(package: str) -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise RunError(
            f"{' and '.join(missing)} not found: this is no Debian or Ubuntu system, and the data comes as the Debian "
            f"package {package}. Elsewhere, download the same files and give their folder as `path:`."
        )


def _download(package: str, work: Path) -> Path:
    command = ["apt-get", "download", package]
    try:
        _run(command, work)
    except RunError:
        # Package lists that were never read, or went stale, can be renewed by root alone.
        if not _is_root():
            raise
        _run(["apt-get", "update"], work)
        _run(command, work)
    found = next(work.glob(f"{package}_*.deb"), None)
    if found is None:
        raise RunError(f"`{' '.join(command)}` brought no file {package}_*.deb. Fetch the package by hand.")
    return found


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _run(command: list[str], work: Path) -> None:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        advice = "" if _is_root() else " If the package lists are missing, run `apt-get update` as root once."
        raise RunError(f"`{' '.join(command)}` failed: {reason[-1] if reason else 'it said nothing'}.{advice}")


if __name__ == "__main__":
    sys.exit(main())
