"""`--times tuned`: found at the first use, which is said on stderr, and read at the next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
TUNED = "tuned:points=4,evaluations=400"


@pytest.fixture
def own(here: Path, model: Path) -> Path:
    """A run that may be changed."""
    return Path(shutil.copytree(model, here / "run"))


def test_the_first_use_tunes_and_the_next_reads(carrara: Run, own: Path) -> None:
    words = ("sample", own, "-n", 2, "--times", TUNED, "--json")
    first, second = carrara(*words), carrara(*words)
    assert (first.code, second.code) == (0, 0)
    lines = first.err.splitlines()
    assert lines[0].startswith(
        "carrara: tuning the grid of times for euler with 3 steps, once: about 400 evaluations"
    )
    assert lines[1].startswith("carrara: tuned in ") and lines[1].endswith(f"kept in {own / 'model' / 'tuned.json'}")
    assert len(lines) == 2 and not second.err
    times = first.json["sampling"]["times"]
    assert times["kind"] == "tuned" and len(times["grid"]) == 4 and second.json["sampling"]["times"] == times
    (entry,) = json.loads((own / "model" / "tuned.json").read_text())["grids"]
    assert entry["grid"] == times["grid"]


def test_evaluate_uses_it_and_keeps_it_beside_the_card(carrara: Run, own: Path) -> None:
    words = ("evaluate", own, "-n", 5, "--metrics", "neighbours", "--times", TUNED)
    first = carrara(*words)
    assert first.code == 0 and first.err.count("tuning the grid") == 1, first.err
    assert json.loads((own / "figures.json").read_text())[-1]["sampling"]["times"]["kind"] == "tuned"
    assert (own / "model" / "tuned.json").is_file(), "the card is written anew, with the whole folder"
    second = carrara(*words)
    assert second.code == 0 and "tuning" not in second.err
    assert len(json.loads((own / "figures.json").read_text())) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--times", "tuned", "--sampler", "ancestral"],
            "times 'tuned' and the sampler 'ancestral' do not go together",
        ),
        (["--times", "tuned:point=4"], "has no option 'point': did you mean 'points'?"),
        (["--times", "tuned:points=2"], "points of tuned times is 2"),
        (["--times", "tunned"], "did you mean 'tuned'?"),
    ],
)
def test_what_cannot_be_is_refused(carrara: Run, model: Path, options: list[str], says: str) -> None:
    done = carrara("sample", model, "-n", 1, *options)
    assert done.code == 2 and says in done.err


def test_a_recipe_with_tuned_times_is_checked_trained_and_sampled(carrara: Run, here: Path, tiny: list[str]) -> None:
    change = "sampling.times={kind: tuned, points: 4, evaluations: 400}"
    done = carrara("train", "digits", "--images", 64, "--out", "run", *tiny, "--set", change)
    assert done.code == 0, done.err
    assert done.err.count("tuning the grid") == 1, (
        "the previews of weights that change are not worth it, the report is"
    )
    assert carrara("recipe", "check", "run/recipe.yaml").code == 0
    again = carrara("sample", "run", "-n", 1)
    assert again.code == 0 and not again.err
