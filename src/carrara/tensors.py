"""Named tensors in safetensors files."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from carrara.errors import DamagedFile, InputError, NoRoom


def sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 (hex) of the tensors' bytes and names, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes the tensors, on the CPU, contiguous, none sharing another's memory. Raises NoRoom where the disk is full."""
    try:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # Its errors have no number but the one in their text.
        if any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise NoRoom(path) from error
        raise


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises DamagedFile where it is not safetensors."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} is not readable as safetensors: {error}") from error
    return tensors


def fitting(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file whose names and shapes are exactly those wanted.

    Raises InputError naming every tensor that does not fit, DamagedFile where the file is none.
    """
    tensors = load(path)
    wrong = unfitting({name: tensor.shape for name, tensor in tensors.items()}, wanted)
    if wrong:
        raise InputError(f"{path} belongs to another recipe: {'; '.join(wrong)}")
    return tensors


def unfitting(given: Mapping[str, torch.Size], wanted: Mapping[str, Tensor]) -> list[str]:
    """What is said of each tensor that is lacking, has no place, or is of another shape than its place."""
    told = [f"it lacks tensor {name}" for name in sorted(wanted.keys() - given.keys())]
    told += [f"the network has no tensor {name}" for name in sorted(given.keys() - wanted.keys())]
    told += [
        f"{name} has the shape {tuple(given[name])} in the file and {tuple(wanted[name].shape)} in the network"
        for name in sorted(given.keys() & wanted.keys())
        if given[name] != wanted[name].shape
    ]
    return told
