"""`carrara data`: what a dataset holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


@pytest.fixture
def photos(here: Path) -> Path:
    for kind, level in (("dark", 20), ("light [x]", 230)):
        (here / "photos" / kind).mkdir(parents=True)
        for k in range(12):
            Image.fromarray(np.full((9, 9, 3), level + k, np.uint8)).save(here / "photos" / kind / f"{k}.png")
    return here / "photos"


def test_the_summary_of_a_kind(carrara: Run) -> None:
    done = carrara("data", "digits")
    assert done.code == 0 and "pictures    1,437 to train on, 360 held out\n" in done.out
    assert "licence     BSD-3-Clause\n" in done.out and "shape       1×8×8 (C×H×W)\n" in done.out
    assert sum(line.rstrip().endswith(" 36") for line in done.out.splitlines()) == 10


def test_the_same_as_json(carrara: Run) -> None:
    found = carrara("data", "digits", "--json").json
    assert found["counts"] == {"train": 1437, "heldout": 360} and len(found["classes"]) == 10
    assert found["options"] == {"kind": "digits"} and len(found["fingerprint"]) == 64


@pytest.mark.parametrize("given", ["folder", "path", "recipe"])
def test_a_folder_of_pictures(carrara: Run, here: Path, photos: Path, given: str) -> None:
    (here / "mine.yaml").write_text("data: {kind: folder, path: photos, size: 4}")
    words = {
        "folder": ["folder", "--set", "path=photos", "--set", "size=8"],
        "path": ["photos", "--set", "data.size=8"],
        "recipe": ["mine.yaml", "--set", "size=8"],
    }[given]
    found = carrara("data", *words, "--json").json
    assert found["shape"] == [3, 8, 8] and list(found["classes"]) == ["dark", "light [x]"]
    assert "light [x]" in carrara("data", *words).out


def test_examples_of_each_class(carrara: Run, here: Path, photos: Path) -> None:
    done = carrara("data", "photos", "--set", "size=8", "--out", "new/examples.png")
    assert done.code == 0 and "examples    new/examples.png\n" in done.out
    sheet = pixels(here / "new" / "examples.png")
    height = len(sheet)
    top, bottom = sheet[: height // 2, -300:-150], sheet[height // 2 :, -300:-150]
    assert np.median(top) < 40 and np.median(bottom) > 200


def test_examples_without_classes(carrara: Run, here: Path, photos: Path) -> None:
    assert carrara("data", photos / "dark", "--set", "size=8", "--out", "sheet.png").code == 0
    assert np.median(pixels(here / "sheet.png")) < 40


@pytest.fixture
def letters(here: Path) -> Path:
    (here / "letters.txt").write_text("\n\n".join(f"Dear {name} [x],\nhow are you?" for name in range(90)))
    return here / "letters.txt"


def test_texts_with_a_few_examples(carrara: Run, letters: Path) -> None:
    done = carrara("data", "letters.txt")
    assert done.code == 0 and "dataset     letters\n" in done.out and "paired      no\n" in done.out
    assert "shape" not in done.out and "examples    Dear" in done.out and "[x], how are you?\n" in done.out
    found = carrara("data", "texts", "--set", "path=letters.txt", "--set", "unit=line", "--json").json
    assert sum(found["counts"].values()) == 180 and len(found["examples"]) == 4
    assert found["options"]["unit"] == "line" and found["longest_bytes"] == 12


def test_pairs_are_shown_with_their_sources(carrara: Run, here: Path) -> None:
    (here / "pairs.jsonl").write_text("".join(f'{{"text": "t{k}", "from": "s{k}"}}\n' for k in range(40)))
    assert re.search(r"s(\d+) → t\1\n", carrara("data", "pairs.jsonl", "--set", "source=from").out)


def test_texts_make_no_picture_and_train_no_model_of_pixels(carrara: Run, letters: Path) -> None:
    for words in (
        ("data", letters, "--out", "sheet.png"),
        (
            "train",
            "digits",
            "--images",
            "8",
            "--set",
            "data.kind=texts",
            "--set",
            "data.path=letters.txt",
            "--set",
            "condition.kind=none",
        ),
    ):
        done = carrara(*words)
        assert done.code == 2 and "texts, and pictures are needed here" in done.err
