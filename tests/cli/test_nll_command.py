"""`carrara evaluate --metrics nll`: shown, kept, reported, and beside the figures of samples without touching them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few evaluations in place of many."""
    from functools import partial

    from carrara.evaluation import nll

    monkeypatch.setattr(nll, "Effort", partial(nll.Effort, draws=2, steps=2, checked=1))


def test_it_is_shown_kept_and_reported(carrara: Run, here: Path, model: Path, quick: None) -> None:
    mine = Path(shutil.copytree(model, here / "mine"))
    assert carrara("evaluate", mine, "-n", 4, "--metrics", "neighbours").code == 0
    done = carrara("evaluate", mine, "-n", 3, "--metrics", "nll")
    assert done.code == 0 and not done.err
    for row in (
        "variational bound ",
        "  L_T ",
        "  L_0 ",
        "probability-flow ODE ",
        "one Gaussian ",
        "each pixel alone ",
    ):
        assert any(line.startswith(row) for line in done.out.splitlines()), row
    assert "n = 3 held-out pictures" in done.out and "not with the bound's 'vlb'" in done.out
    assert "samples/s" not in done.out
    first, second = json.loads((mine / "figures.json").read_text())
    assert "neighbours" in first and second["nll"]["n"] == 3 and "sampling_s" not in second
    report = (mine / "report.html").read_text()
    assert "Negative log-likelihood" in report and "Copies of training pictures" in report
    facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
    assert "copies_of_training_pictures" in facts and "n = 3 held-out" in facts["bits_per_dim"]
    assert carrara("evaluate", mine, "-n", 4, "--metrics", "neighbours").code == 0
    facts = json.loads((mine / "model" / "model.json").read_text())["facts"]
    assert "n = 3 held-out" in facts["bits_per_dim"]


def test_json_has_it_beside_the_samples(carrara: Run, here: Path, model: Path, quick: None) -> None:
    mine = Path(shutil.copytree(model, here / "mine"))
    said = carrara("evaluate", mine, "-n", 3, "--metrics", "nll,neighbours", "--json").json
    assert said["nll"]["unit"] == "bits/dim" and said["neighbours"]["n"] == 3 and said["sampling_s"] > 0
    assert said["nll"]["bound"]["standard_error"] > 0


def test_how_many_where_nobody_said() -> None:
    from carrara.cli.evaluate import count_of
    from carrara.evaluation.nll import PICTURES

    assert count_of("nll") == PICTURES and count_of(None) == count_of("nll,classes") == 1000


def test_one_picture_is_refused(carrara: Run, model: Path) -> None:
    done = carrara("evaluate", model, "-n", 1, "--metrics", "nll")
    assert done.code == 2 and "2 or more" in done.err
