"""Names to objects: an entry of a registry, or the dotted path of anybody's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from carrara.errors import InputError, nearest


def find(room: str, name: str, registry: Mapping[str, Any]) -> Any:
    """The object called `name`: a key of the registry (whose entry may be a dotted path), or itself "module:attribute".

    Raises InputError for an unknown name, with the nearest spelling, and for a path that cannot be imported.
    """
    if name in registry:
        entry = registry[name]
        return imported(room, entry) if isinstance(entry, str) else entry
    if ":" in name:
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
