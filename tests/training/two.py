"""A small run that two processes train together, and what one trains alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
from small import differing, state
from torch import Tensor

from carrara import tensors

CHANGES = ("network.dropout=0", "training.checkpoint_s=3600", "training.clip=1000")
"""Without what differs from process to process, or depends on the order of a sum."""


def together(module: ModuleType, folder: Path, images: int, changes: Sequence[str] = CHANGES) -> dict[str, Tensor]:
    """What each of two processes has learnt, bit for bit the same, in folder/run; `module` has a `trained`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    script = str(Path(__file__).with_name("rank_of.py"))
    words = [sys.executable, script, module.__name__, str(folder / "run"), str(folder), str(images), *changes]
    ranks = [subprocess.Popen(words, env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    first, second = (tensors.load(folder / f"{rank}.safetensors") for rank in (0, 1))
    assert differing(first, second) == []
    return first


def equal_to_one(module: ModuleType, folder: Path, images: int, changes: Sequence[str] = CHANGES) -> list[str]:
    """The names of what both have learnt; together they learn what one learns alone, in folder/alone."""
    first = together(module, folder, images, changes)
    whole = state(module.trained(folder / "alone", images, changes))
    for key, value in whole.items():
        torch.testing.assert_close(
            first[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )
    return list(whole)
