"""`carrara sample --seeds` and `--between`: pictures again by their seeds, and those on the way from one to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_one_picture_is_made_again_by_its_seed_and_label(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 11, "--seed", 5, "--out", "many")
    assert "again       --seeds 15 --label 0 makes the last one alone" in done.out
    assert carrara("sample", model, "--seeds", 15, "--label", 0, "--out", "alone").code == 0
    assert carrara("sample", model, "--seeds", "7,5", "--label", "2,0", "--batch", 1, "--out", "two").code == 0
    for folder, names in (("alone", ["00015"]), ("two", ["00005", "00007"])):
        assert sorted(path.stem for path in (here / folder).glob("*.png")) == names
        for name in names:
            assert np.array_equal(pixels(here / folder / f"{name}.png"), pixels(here / "many" / f"{name}.png"))


def test_a_seed_may_come_twice(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "--seeds", "3,3,4", "--label", "1,2,2", "--out", "made", "--json")
    about = json.loads((here / "made" / "samples.json").read_text())["samples"]
    assert [(one["file"], one["seed"], one["label"]) for one in about] == [
        ("00003.png", 3, "1"),
        ("00003-2.png", 3, "2"),
        ("00004.png", 4, "2"),
    ]
    assert done.json["seeds"] == [3, 3, 4]
    assert pixels(here / "made" / "00003-2.png").shape == (8, 8)


def test_the_way_from_one_to_the_next(carrara: Run, here: Path, model: Path) -> None:
    words = ["sample", model, "--seeds", "3,9", "--label", 4]
    done = carrara(*words, "--between", 3, "--out", "way", "--json")
    assert done.code == 0, done.err
    names = [f"{place:03d}.png" for place in range(5)]
    assert sorted(path.name for path in (here / "way").iterdir()) == [*names, "samples.json", "strip.png"]
    about = json.loads((here / "way" / "samples.json").read_text())["samples"]
    assert [one["file"] for one in about] == names and about == [
        {"file": name, **told} for name, told in zip(names, done.json["between"], strict=True)
    ]
    assert [one.get("share") for one in about] == [None, 0.25, 0.5, 0.75, None]
    assert (about[0]["seed"], about[1]["from"]["seed"], about[1]["to"]["seed"], about[4]["seed"]) == (3, 3, 9, 9)
    carrara(*words, "--out", "plain")
    for place, seed in ((0, 3), (4, 9)):
        assert np.array_equal(pixels(here / "way" / names[place]), pixels(here / "plain" / f"{seed:05d}.png"))
    assert pixels(here / "way" / "strip.png").shape[1] > 4 * pixels(here / "way" / "strip.png").shape[0] / 2
    said = carrara(*words, "--between", 3).out
    assert "seeds       3 → 9, 5 pictures, the ends among them" in said and "again" not in said
    carrara(*words, "--between", 3, "--batch", 2, "--out", "batches")
    assert all(np.array_equal(pixels(here / "way" / name), pixels(here / "batches" / name)) for name in names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--between", 3], "nothing lies between one label and another"),
        (
            ["--between", 3, "--label", 1, "--sampler", "ancestral"],
            "adds noise on the way, so that neighbours would not",
        ),
        (["--between", 3, "--label", 1, "--seeds", "4"], "3 samples between 1 were asked for; give two ends or more"),
        (["--between", 3, "--label", 1, "--gif", "a.gif"], "--between writes a strip of its pictures, not a film"),
        (["--between", 3, "--label", 1, "--start", "a.png"], "--between goes from noise to noise; leave out --start"),
        (["--seeds", "4,x"], "--seeds '4,x' is not a list of whole numbers, such as 3,17"),
        (["--seeds", "4,-1"], "seed -1 is not a whole number from 0"),
        (["--seeds", "4,5", "-n", 3], "3 samples were asked for and 2 seeds given"),
    ],
)
def test_what_has_no_way_is_refused(carrara: Run, here: Path, model: Path, options: list[Any], words: str) -> None:
    Image.new("L", (8, 8)).save(here / "a.png")
    done = carrara("sample", model, *options)
    assert done.code == 2 and words in done.err
