"""`carrara evaluate` of a model of texts: shown, kept, in JSON, with a study; what is of pictures is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def texts(here: Path) -> Path:
    """The folder of an untrained autoregressive model of texts of our own."""
    from carrara.codecs.encoded import fitted
    from carrara.model import build
    from carrara.recipe import check
    from carrara.training.run import dataset_of

    lines = [f"the man number {i} said to them, go to the house." for i in range(400)]
    (here / "lines.txt").write_text("\n".join(lines))
    recipe = check(
        {
            "name": "lines",
            "data": {"kind": "texts", "path": str(here / "lines.txt"), "unit": "line", "heldout": 0.3},
            "codec": {"kind": "bytes", "length": 32},
            "condition": {"kind": "none"},
            "network": {"kind": "tokens", "width": 16, "head_width": 8, "depth": 1, "causal": True},
            "process": {"kind": "autoregressive"},
            "train_times": {"kind": "uniform"},
            "sampling": {"sampler": "left_to_right", "steps": 1},
        }
    )
    dataset = dataset_of(recipe)
    build(recipe, dataset.shape, dataset.classes, fitted(recipe.build("codec"), dataset)).save(here / "model")
    return here / "model"


def test_it_is_shown_and_kept(carrara: Run, texts: Path) -> None:
    done = carrara("evaluate", texts, "-n", 6, "--judge", texts)
    assert done.code == 0, done.err
    for row in (
        "the model, exactly",
        "each token alone",
        "nothing known",
        "perplexity",
        "word entropy",
        "distinct-2",
    ):
        assert any(line.startswith(row) for line in done.out.splitlines()), row
    assert "Perplexity falls where text becomes less varied" in done.out
    (entry,) = json.loads((texts / "figures.json").read_text())
    assert entry["bits"]["n"] == 6 and entry["judge"]["unit"] == "token"
    said = carrara("evaluate", texts, "-n", 6, "--metrics", "bits", "--json").json
    assert said["bits"] == entry["bits"] and "entropy" not in said


def test_a_study_of_texts(carrara: Run, texts: Path) -> None:
    done = carrara("evaluate", texts, "-n", 4, "--study", "noise", "--values", "0,1", "--judge", texts)
    assert done.code == 0, done.err
    assert "temperature" in done.out and "shuffled words" in done.out
    assert len(json.loads((texts / "studies" / "noise.json").read_text())["cells"]) == 3
    assert "Why tokens are drawn" in (texts / "studies" / "noise.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics", "frechet"), "of texts there are bits, judge"),
        (("--clip", "somewhere"), "clip says how pictures are measured"),
        (("--features", "inception"), "features says how pictures are measured"),
        (("--study", "guidance"), "no study 'guidance' of texts"),
        (("--study", "noise", "--features", "inception"), "features says how pictures are measured"),
    ],
)
def test_what_is_of_pictures_is_refused(carrara: Run, texts: Path, words: tuple[str, ...], said: str) -> None:
    done = carrara("evaluate", texts, "-n", 4, *words)
    assert done.code == 2 and said in done.err


def test_what_is_of_texts_is_refused_for_pictures(carrara: Run, model: Path) -> None:
    for words, said in (
        (("--metrics", "bits"), "is of texts, and this model makes pictures"),
        (("--metrics", "neighbours", "--judge", "pocketsphinx"), "judge says how texts are measured"),
        (("--study", "noise", "--judge", "pocketsphinx"), "judge says how texts are measured"),
    ):
        done = carrara("evaluate", model, "-n", 4, *words)
        assert done.code == 2 and said in done.err
