"""`carrara average`: another length of the moving average, after training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import carrara as library
from carrara.training.averages import averaged

LENGTHS = "training.averages=[0.05,0.1]"


@pytest.fixture
def run(carrara: Callable[..., Any], tiny: list[str], here: Path) -> Path:
    folder = here / "runs" / "run"
    changes = [word for change in (LENGTHS, "training.snapshots=4") for word in ("--set", change)]
    assert carrara("train", "digits", "--images", 256, "--out", folder, *tiny, *changes).code == 0
    return folder


def test_the_model_is_written_and_samples(carrara: Callable[..., Any], run: Path) -> None:
    told = carrara("average", str(run), "--length", "0.12", "--json")
    assert told.code == 0, told.err
    made = json.loads(told.out)
    assert made["model"] == str(run.with_name("run-0.12")) and made["of"] == 8 and made["images"] == 256
    model, wanted = library.load(made["model"]), averaged(run, 0.12)
    assert torch.equal(model.sample(2), wanted.sample(2)) and model.facts["average_length"] == 0.12
    assert not torch.equal(model.sample(2), library.load(run).sample(2))
    again = carrara("average", str(run), "--length", "0.12")
    assert again.code != 0 and "--overwrite" in again.err
    assert carrara("average", str(run), "--length", "0.12", "--overwrite").code == 0


def test_what_cannot_be_is_said_in_a_line(carrara: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    for words, sentence in (
        ((str(run), "--length", "0.4"), "above 0 and at most 0.25"),
        ((str(tmp_path / "none"), "--length", "0.1"), "none"),
        ((str(run), "--length", "0.1", "--images", "1"), "not within the run's snapshots"),
    ):
        told = carrara("average", *words)
        assert told.code != 0 and sentence in told.err and "Traceback" not in told.err
    assert sorted(path.name for path in run.parent.iterdir()) == ["run"], "nothing is left of what was refused"
