"""Two processes that are told texts, dropped out here and there, train what one trains."""

from __future__ import annotations

from pathlib import Path

import colours
from two import equal_to_one

import carrara


def test_prompts_on_two_processes_equal_one(tmp_path: Path) -> None:
    assert any("text" in name for name in equal_to_one(colours, tmp_path, 96))
    one, two = (carrara.load(tmp_path / name).sample(prompt=["black", "white", ""]) for name in ("alone", "run"))
    assert (one.int() - two.int()).abs().max() <= 1
