"""Named tensors in safetensors files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from carrara.errors import DamagedFile, InputError


def sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 (hex) of the tensors' bytes and names, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes the tensors, on the CPU, contiguous, none sharing another's memory."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises DamagedFile where it is not safetensors."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} is not readable as safetensors: {error}") from error
    return tensors


def fitting(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file whose names and shapes are exactly those wanted.

    Raises InputError naming the first tensor that does not fit, DamagedFile where the file is none.
    """
    tensors = load(path)
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted:
            lacking = "it lacks" if name not in tensors else "the network has no"
            raise InputError(f"{path} belongs to another recipe: {lacking} tensor {name}")
        if tensors[name].shape != wanted[name].shape:
            raise InputError(
                f"{path} belongs to another recipe: {name} has the shape {tuple(tensors[name].shape)} in the file "
                f"and {tuple(wanted[name].shape)} in the network"
            )
    return tensors
