"""Checkpoints: everything a run needs to go on, bit for bit, in folders that are whole or not there."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carrara import files, tensors
from carrara.errors import DamagedFile
from carrara.training.learner import Learner

log = logging.getLogger(__name__)

STATE = "state.json"
BUFFERS = "buffers.safetensors"


def save(folder: Path, learner: Learner, extra: Mapping[str, Any], keep: int) -> Path:
    """Writes checkpoints/IMAGES and removes all but the newest `keep`. Returns the new one."""
    path = folder / f"{learner.images:012d}"
    if not _whole(path):
        files.write_folder(path, lambda staging: _fill(staging, learner, extra))
    _clear(folder, path, keep)
    return path


def load(folder: Path, learner: Learner) -> dict[str, Any] | None:
    """Puts the newest whole checkpoint into the learner and returns what was saved with it; None where there never was one.

    A damaged one is named in a warning, and the one before it is used. Raises DamagedFile where all are damaged.
    """
    path = newest(folder)
    if path is None:
        if damaged := _all(folder):
            raise DamagedFile(
                f"all checkpoints in {folder} are damaged ({', '.join(p.name for p in damaged)}); "
                "put them back from a copy, or remove them to begin again at the first image"
            )
        return None
    state: dict[str, Any] = files.read_json(path / STATE)
    _read(path, learner)
    learner.images = state["images"]
    extra: dict[str, Any] = state["extra"]
    return extra


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; each damaged one that is newer is named in a warning."""
    for path in reversed(_all(folder)):
        try:
            files.check_folder(path)
        except DamagedFile as error:
            log.warning("%s. The checkpoint before it is tried.", error)
            continue
        return path
    return None


def exist(folder: Path) -> bool:
    """Whether there is one, whole or damaged."""
    return bool(_all(folder))


def weights(path: Path, player: str, averaged: bool = True) -> Path:
    """The file of a player's weights in a checkpoint: its moving average, or its own."""
    return path / f"{player}.{'average' if averaged else 'weights'}.safetensors"


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _whole(path: Path) -> bool:
    try:
        files.check_folder(path)
    except DamagedFile:
        return False
    return True


def _clear(folder: Path, latest: Path, keep: int) -> None:
    """Removes what a kill left half written, damaged checkpoints that were gone back behind, and all but `keep` up to `latest`."""
    known = _all(folder)
    behind = [path for path in known if path.name > latest.name and not _whole(path)]
    old = [path for path in known if path.name <= latest.name][:-keep]
    for path in (*folder.glob(".*.staging"), *behind, *old):
        shutil.rmtree(path)


def _fill(folder: Path, learner: Learner, extra: Mapping[str, Any]) -> None:
    for name, optimiser in learner.optimisers.items():
        tensors.save(learner.parameters[name], weights(folder, name, averaged=False))
        tensors.save(learner.average[name], weights(folder, name))
        tensors.save(optimiser.moments(), folder / f"{name}.optimiser.safetensors")
    learner.averages.save(folder)
    tensors.save(learner.buffers(), folder / BUFFERS)
    files.write_json(folder / STATE, {"images": learner.images, "extra": dict(extra)})


def _read(path: Path, learner: Learner) -> None:
    averages = {}
    for name, optimiser in learner.optimisers.items():
        learner._put(
            {**_own(learner), name: tensors.fitting(weights(path, name, averaged=False), learner.parameters[name])}
        )
        averages[name] = tensors.fitting(weights(path, name), learner.parameters[name])
        optimiser.restore(tensors.load(path / f"{name}.optimiser.safetensors"))
    for name, average in averages.items():
        for key, value in average.items():
            learner.average[name][key].copy_(value)
    learner.averages.restore(path)
    learner.put_buffers(tensors.fitting(path / BUFFERS, learner.buffers()))


def _own(learner: Learner) -> dict[str, Mapping[str, Tensor]]:
    return {name: {key: p.detach() for key, p in named.items()} for name, named in learner.parameters.items()}
