"""Named tensors come back bit for bit, or are refused by name."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from carrara import tensors
from carrara.errors import DamagedFile, InputError, NoRoom

NAMED = {
    "float": torch.randn(3, 4),
    "whole": torch.arange(5),
    "half": torch.randn(2).bfloat16(),
    "scalar": torch.tensor(0.1, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
}


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors.save(NAMED, tmp_path / "file")
    found = tensors.load(tmp_path / "file")
    assert found.keys() == NAMED.keys()
    for name, value in NAMED.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


def test_views_and_shared_memory_are_saved_as_they_look(tmp_path: Path) -> None:
    base = torch.arange(12.0, requires_grad=True)
    views = {"rows": base.view(3, 4), "turned": base.view(3, 4).T, "part": base[2:5]}
    tensors.save(views, tmp_path / "file")
    found = tensors.load(tmp_path / "file")
    assert all(torch.equal(found[name], value.detach()) for name, value in views.items())


def test_no_tensors_at_all_can_be_saved(tmp_path: Path) -> None:
    tensors.save({}, tmp_path / "file")
    assert tensors.load(tmp_path / "file") == {}


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "missing"])
def test_a_file_that_is_none_is_named(tmp_path: Path, damage: str) -> None:
    tensors.save(NAMED, tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    if damage == "missing":
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "file").write_bytes({"empty": b"", "cut": whole[:-1], "text": b"not safetensors" * 9}[damage])
    with pytest.raises(DamagedFile, match=r"file is not readable as safetensors"):
        tensors.load(tmp_path / "file")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}, "it lacks tensor c"),
        ({"a": torch.zeros(2)}, "the network has no tensor b"),
        (
            {"a": torch.zeros(1), "c": torch.zeros(1)},
            r"it lacks tensor c; the network has no tensor b; a has the shape",
        ),
        ({"a": torch.zeros(2), "b": torch.zeros(3, 1)}, r"b has the shape \(3,\) in the file and \(3, 1\) in the"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, wanted: dict[str, torch.Tensor], sentence: str) -> None:
    tensors.save({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "file")
    with pytest.raises(InputError, match=f"belongs to another recipe: {sentence}"):
        tensors.fitting(tmp_path / "file", wanted)


def test_tensors_that_fit_are_given(tmp_path: Path) -> None:
    tensors.save(NAMED, tmp_path / "file")
    assert torch.equal(tensors.fitting(tmp_path / "file", NAMED)["float"], NAMED["float"])


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As safetensors tells it: by its text alone."""

    def failing(number: int) -> Any:
        def save(*_: Any) -> None:
            raise SafetensorError(f"Error while serializing: I/O error: some words (os error {number})")

        return save

    monkeypatch.setattr(tensors, "save_file", failing(errno.ENOSPC))
    with pytest.raises(NoRoom, match="file cannot be written, for its disk is full"):
        tensors.save(NAMED, tmp_path / "file")
    monkeypatch.setattr(tensors, "save_file", failing(errno.EIO))
    with pytest.raises(SafetensorError):
        tensors.save(NAMED, tmp_path / "file")
