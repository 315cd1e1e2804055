"""Where examples come from: named datasets of pictures or texts with labels, captions, sources, read once and memory-mapped."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from carrara.data.dataset import Dataset, Split
from carrara.data.documents import Documents
from carrara.errors import InputError, nearest
from carrara.plugins import find

__all__ = ["DATASETS", "Dataset", "Documents", "Split", "builder", "load"]

# Dotted paths, so that naming a dataset imports nothing. A function's keyword parameters are its recipe's keys.
DATASETS: dict[str, str] = {
    "chinese": "carrara.data.chinese:chinese",
    "digits": "carrara.data.digits:digits",
    "emoji": "carrara.data.emoji:emoji",
    "fashion": "carrara.data.fashion:fashion",
    "folder": "carrara.data.folder:folder",
    "gloss": "carrara.data.gloss:gloss",
    "texts": "carrara.data.texts:texts",
    "verse": "carrara.data.verse:verse",
    "words": "carrara.data.words:words",
}


def load(kind: str, **options: Any) -> Dataset:
    """The dataset of that kind, a name in DATASETS or a dotted path such as my_lab.data:birds.

    Raises InputError when the kind or an option is unknown, and what the dataset itself raises: DataError when its
    files cannot be used, MissingExtra when a package is not installed.
    """
    build = builder(kind)
    _check_options(kind, build, options)
    dataset = build(**options)
    if not isinstance(dataset, Dataset):
        raise InputError(f"{kind} returned {type(dataset).__name__}, not a carrara.data.Dataset: make it return one.")
    return dataset


def builder(kind: str) -> Callable[..., Dataset]:
    """The function that builds datasets of that kind. Raises InputError when there is none."""
    found: Callable[..., Dataset] = find("dataset", kind, DATASETS)
    return found


def _check_options(kind: str, build: Callable[..., Dataset], options: dict[str, Any]) -> None:
    parameters = inspect.signature(build).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := sorted(options.keys() - parameters.keys()):
        allowed = nearest(unknown[0], parameters) if parameters else "it has no options"
        raise InputError(f"the dataset {kind} has no option {unknown[0]!r}; {allowed}")
    needed = [name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise InputError(f"the dataset {kind} needs the option {missing[0]!r}: give it as `{missing[0]}: ...`.")
