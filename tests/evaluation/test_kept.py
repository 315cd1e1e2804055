"""What measuring keeps between calls."""

from __future__ import annotations

from pathlib import Path

import torch

from carrara.evaluation.cache import find, keep, kept


def test_tensors_are_found_again_however_they_lie_in_memory(tmp_path: Path) -> None:
    """Pictures that a convolution made lie channels last."""
    rows = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)
    given = {"samples": rows.to(memory_format=torch.channels_last), "turned": rows.mT, "part": rows[:, 1:]}
    keep({"what": 1}, given, tmp_path)
    found = find({"what": 1}, tmp_path)
    assert found is not None and all(torch.equal(found[name], given[name]) for name in given)


def test_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    keep({"what": 1}, {"a": torch.zeros(4)}, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\x01")
    assert find({"what": 1}, tmp_path) is None
    assert torch.equal(kept({"what": 1}, tmp_path, lambda: {"a": torch.ones(4)})["a"], torch.ones(4))
