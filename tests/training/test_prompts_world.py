"""Two processes that are told texts, dropped out here and there, train what one trains."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from colours import trained
from rank_prompts import CHANGES, IMAGES
from small import differing, state

import carrara
from carrara import tensors


def test_prompts_on_two_processes_equal_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("rank_prompts.py")), str(tmp_path / "run"), str(tmp_path)]
    ranks = [subprocess.Popen(words, env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    first, second = (tensors.load(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert differing(first, second) == []
    whole = state(trained(tmp_path / "alone", IMAGES, CHANGES))
    assert any("text" in name for name in whole)
    for key, value in whole.items():
        torch.testing.assert_close(
            first[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )
    one, two = (carrara.load(tmp_path / name).sample(prompt=["black", "white", ""]) for name in ("alone", "run"))
    assert (one.int() - two.int()).abs().max() <= 1
