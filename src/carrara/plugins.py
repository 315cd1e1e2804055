"""Names to objects: an entry of a registry, or the dotted path of anybody's own.

A dotted path is code. Whoever writes one in a recipe or at the command line means it to be run; in a model folder somebody else
may have written it. So what a folder names is run only where its module is known: because this process was asked for it by name,
or because it stands in CARRARA_PLUGINS.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from carrara.errors import InputError, nearest

KNOWN = "CARRARA_PLUGINS"
"""The environment's list of modules, separated by commas, that model folders may name; what is inside them counts as they do."""
NAMING = ("kind", "sampler", "encoder")
"""The keys of a recipe under which a dotted path may stand."""
_asked: set[str] = set()


def find(room: str, name: str, registry: Mapping[str, Any]) -> Any:
    """The object called `name`: a key of the registry (whose entry may be a dotted path), or itself "module:attribute".

    Raises InputError for an unknown name, with the nearest spelling, and for a path that cannot be imported.
    """
    if name in registry:
        entry = registry[name]
        return imported(room, entry) if isinstance(entry, str) else entry
    if ":" in name:
        _asked.add(name.partition(":")[0])
        return imported(room, name)
    raise InputError(
        f"there is no {room} {name!r}: {nearest(name, registry)}; or the dotted path of your own, 'module:name'"
    )


def imported(room: str, path: str) -> Any:
    """The attribute at "module:attribute"."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"the {room} {path!r} cannot be imported: {error}") from error


def check_known(content: Any, folder: Path) -> None:
    """Raises InputError where what a model folder holds of its recipe names code of modules that are not known here."""
    known = _asked | {name.strip() for name in os.environ.get(KNOWN, "").split(",")}
    strange = [path for path in named(content) if not known & set(_within(path.partition(":")[0]))]
    if strange:
        modules = ",".join(sorted({path.partition(":")[0] for path in strange}))
        raise InputError(
            f"{folder} names code that is not carrara's: {', '.join(strange)}. A model from somebody else could run anything so. "
            f"Where you know the module, allow it by the environment: {KNOWN}={modules}"
        )


def named(content: Any) -> Iterator[str]:
    """The dotted paths in a recipe's content."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key in NAMING and isinstance(value, str) and ":" in value and "/" not in value.partition(":")[0]:
                yield value
            yield from named(value)
    elif isinstance(content, Sequence) and not isinstance(content, str):
        for value in content:
            yield from named(value)


def _within(module: str) -> list[str]:
    """The module and all that it is inside of: a.b.c, a.b, a."""
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
