"""A CLIP from the command line: trained on a folder with captions, reported, and kindly kept from what it is not for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carrara.clip.model import load

Run = Callable[..., Any]
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 200, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
SMALL = ["--set", "trainable.image=pixels", "--set", "trainable.text=words"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that make the recipe small, on a folder of pictures with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for above in COLOURS:
        for below in COLOURS:
            picture = np.full((16, 16, 3), COLOURS[above], np.uint8)
            picture[8:] = COLOURS[below]
            Image.fromarray(picture).save(folder / f"{above}-{below}.png")
            lines.append(json.dumps({"file_name": f"{above}-{below}.png", "text": f"{above} above {below}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    changes = [
        "data.kind=folder", f"data.path={folder}", "data.size=16", "data.heldout=0.3", "trainable.image=pixels",
        "trainable.text=words", "trainable.dim=16", "training.batch=8", "training.previews=1", "trainable.neighbours=5",
    ]  # fmt: skip
    return ["train", "clip-emoji", *(word for change in changes for word in ("--set", change))]


@pytest.fixture(scope="module")
def trained(carrara: Run, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "clip"
    return folder, carrara(*words, "--images", 160, "--out", folder)


def test_it_is_trained_and_says_what_it_finds(trained: tuple[Path, Any]) -> None:
    folder, done = trained
    assert done.code == 0 and not done.err
    assert "of held-out captions" in done.out and "find their own picture first" in done.out
    assert "carrara sample" not in done.out and (folder / "model" / "model.json").is_file()
    assert load(folder).texts(["red above blue"]).shape == (1, 21)
    assert len(list((folder / "samples").iterdir())) == 2


def test_its_report_shows_what_is_found_and_asks_nobody(trained: tuple[Path, Any]) -> None:
    page = (trained[0] / "report.html").read_text()
    for title in ("Pictures found for captions", "Captions found for pictures", "Retrieval", "Training", "Data"):
        assert f">{title}</h2>" in page
    assert page.count('src="data:image/png;base64,') >= 2 and "http://" not in page.replace("http://www.w3.org", "")
    captions = {f"{above} above {below}" for above in COLOURS for below in COLOURS}
    assert sum(caption in page for caption in captions) >= 4 and "True above another" in page


def test_the_recipe_says_how_long_unless_somebody_else_does(carrara: Run, words: list[str], here: Path) -> None:
    done = carrara(*words, "--set", "training.images=24", "--out", "run", "--json")
    assert done.code == 0 and done.lines[0]["budget_images"] == 24 and done.lines[-1]["images"] == 24
    assert done.lines[-1]["next"] is None and 0 <= done.lines[-1]["text_to_image_at_5_ema"] <= 1
    assert carrara(*words, "--set", "training.images=24", "--out", "run").code == 0
    assert carrara(*words, "--images", 8, "--set", "training.images=24", "--out", "other").code == 0


@pytest.mark.parametrize(
    "command",
    [("sample",), ("evaluate",), ("evaluate", "--study", "noise"), ("train", "distill", "--teacher")],
    ids=lambda command: command[-1],
)
def test_what_needs_pictures_to_be_made_refuses_it(
    carrara: Run, trained: tuple[Path, Any], command: tuple[str, ...], here: Path
) -> None:
    words = [command[0], trained[0], *command[1:]] if command[0] == "evaluate" else [*command, trained[0]]
    done = carrara(*words)
    assert done.code == 2 and not done.out
    assert "holds a CLIP, which tells how well pictures and texts fit and makes no pictures" in done.err


def test_pictures_without_captions_are_refused(carrara: Run, words: list[str], here: Path) -> None:
    done = carrara("train", "clip-emoji", "--set", "data.kind=digits", "--images", 8, "--out", "run", *SMALL)
    assert done.code == 2 and "learns from captions, and the data digits has none" in done.err
    assert not (here / "run" / "recipe.yaml").exists()
