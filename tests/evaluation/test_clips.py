"""A CLIP is known by what its folder holds, and real pictures stand beside the classes that samples were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from carrara.clip.model import build
from carrara.data import Dataset
from carrara.data import load as load_data
from carrara.errors import InputError
from carrara.evaluation import clips
from carrara.evaluation.clip import Clip
from carrara.evaluation.inputs import gathered
from carrara.recipe import read

SMALL = ["trainable.image=pixels", "trainable.text=words", "trainable.dim=8", "trainable.neighbours=0"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def test_carraras_own_is_a_clip_like_any_other(tmp_path: Path) -> None:
    made = build(read("clip-emoji", SMALL))
    made.save(tmp_path / "run" / "model")
    for folder in (tmp_path / "run", tmp_path / "run" / "model", str(tmp_path / "run")):
        found = clips.load(folder)
        assert isinstance(found, Clip) and found.sha256 == made.sha256
        torch.testing.assert_close(found.texts(["a cat"]), made.texts(["a cat"]))


def test_what_is_no_clip_is_told_both_kinds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"carrara's \(no model.json.*transformers' layout \(no config.json"):
        clips.load(tmp_path)


def test_real_pictures_are_of_the_classes_asked_for(digits: Dataset) -> None:
    labels = torch.tensor([3, 3, 0, 9, 3])
    real = clips.of_classes(digits, labels)
    assert real is not None and real.shape == (5, 1, 8, 8)
    for label, picture in zip(labels.tolist(), real, strict=True):
        mine = gathered(digits.heldout.media, (digits.heldout.labels == label).nonzero()[0])
        assert (mine == picture).flatten(1).all(1).any()
    assert not torch.equal(real[0], real[1])
    many = clips.of_classes(digits, torch.zeros(200, dtype=torch.int64))
    assert many is not None and torch.equal(many[0], many[(digits.heldout.labels == 0).sum()])


def test_a_class_nobody_held_out_leaves_no_ceiling(digits: Dataset) -> None:
    assert clips.of_classes(digits, torch.tensor([0, 10])) is None
