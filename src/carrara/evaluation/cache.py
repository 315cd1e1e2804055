"""Tensors that are costly to compute, kept in the cache folder from one run to the next."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from carrara.files import cache_dir, write

Tensors = dict[str, Tensor]
Key = Mapping[str, str | int]


def cache_folder() -> Path:
    """The folder of cached measurements."""
    return cache_dir() / "evaluation"


def find(key: Key, folder: Path) -> Tensors | None:
    """The tensors kept under this key; None when there are none or their file is damaged."""
    try:
        with safe_open(_path(key, folder), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            intact = (file.metadata() or {}).get("sha256") == _digest(tensors)
    except (OSError, SafetensorError):
        return None
    return tensors if intact else None


def keep(key: Key, tensors: Tensors, folder: Path) -> None:
    """Write the tensors whole or not at all; a folder that cannot be written to is left as it is."""
    laid = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = save(laid, {"sha256": _digest(laid), "key": json.dumps(dict(key))})
    # A cache saves time and decides nothing, so a full or read-only disk is no reason to fail.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write(_path(key, folder), content)


def kept(key: Key, folder: Path, make: Callable[[], Tensors]) -> Tensors:
    """What is kept under the key; where nothing is, it is made and kept."""
    found = find(key, folder)
    if found is None:
        found = make()
        keep(key, found, folder)
    return found


def _path(key: Key, folder: Path) -> Path:
    name = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    return folder / f"{name[:32]}.safetensors"


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
