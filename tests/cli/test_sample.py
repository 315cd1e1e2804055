"""`carrara sample`: sheets, files and films."""

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
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_a_sheet_with_its_seeds_and_labels(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 12, "--seed", 5, "--out", "new/sheet.png")
    assert done.code == 0 and not done.err
    assert "seeds       5 to 16\n" in done.out and "labels      0, 1, 2, 3, 4, 5, 6, 7, 8, 9 in turn\n" in done.out
    assert "written     new/sheet.png\n" in done.out and "euler, 3 steps, 3 evaluations a sample" in done.out
    assert pixels(here / "new" / "sheet.png").min() < pixels(here / "new" / "sheet.png").max()


def test_without_a_name_nothing_is_ever_replaced(carrara: Run, here: Path, model: Path) -> None:
    for _ in range(3):
        assert carrara("sample", model, "-n", 1).code == 0
    assert sorted(path.name for path in (here / "samples").iterdir()) == [
        "digits-0-2.png",
        "digits-0-3.png",
        "digits-0.png",
    ]


def test_a_file_a_sample_and_what_made_it(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 3, "--seed", 7, "--label", "2,5", "--out", "many", "--json")
    about = json.loads((here / "many" / "samples.json").read_text())
    assert [(s["file"], s["seed"], s["label"]) for s in about["samples"]] == [
        ("00007.png", 7, "2"),
        ("00008.png", 8, "5"),
        ("00009.png", 9, "2"),
    ]
    assert sorted(p.name for p in (here / "many").glob("*.png")) == [s["file"] for s in about["samples"]]
    assert pixels(here / "many" / "00007.png").shape == (8, 8)
    assert (done.json["seeds"], done.json["labels"]) == ([7, 8, 9], ["2", "5", "2"])
    assert done.json["out"] == "many" and done.json["sampling"] == about["sampling"] and not done.err


@pytest.mark.parametrize("options", [["--batch", "2"], ["--batch", "1"]])
def test_a_sample_does_not_depend_on_its_batch(carrara: Run, here: Path, model: Path, options: list[str]) -> None:
    carrara("sample", model, "-n", 5, "--out", "one")
    carrara("sample", model, "-n", 5, "--out", "other", *options)
    for path in (here / "one").glob("*.png"):
        # Up to the network's own rounding.
        assert np.abs(pixels(path) - pixels(here / "other" / path.name)).max() <= 1


def test_each_option_reaches_the_sampler(carrara: Run, model: Path) -> None:
    options = "--steps 4 --sampler ancestral --eta 0.5 --times shifted:shift=2 --guidance-scale 1.5"
    done = carrara("sample", model, "-n", 1, "--json", *options.split())
    found = done.json["sampling"]
    assert (found["steps"], found["sampler"], found["options"]) == (4, "ancestral", {"eta": 0.5})
    assert (found["times"], found["guidance_scale"]) == ({"kind": "shifted", "shift": 2.0}, 1.5)


def test_the_options_of_the_recipes_sampler_do_not_reach_another(
    carrara: Run, here: Path, model: Path, tamper: Callable[..., None]
) -> None:
    import shutil

    shutil.copytree(model / "model", here / "mine")
    about = json.loads((here / "mine" / "model.json").read_text())
    about["recipe"]["sampling"].update(sampler="ancestral", options={"eta": 0.3})
    tamper(here / "mine", "model.json", json.dumps(about).encode())
    assert carrara("sample", "mine", "-n", 1, "--json").json["sampling"]["options"] == {"eta": 0.3}
    assert carrara("sample", "mine", "-n", 1, "--json", "--sampler", "euler").json["sampling"]["options"] == {}


def test_labels_may_be_given_one_by_one(carrara: Run, model: Path) -> None:
    apart = carrara("sample", model, "-n", 4, "--json", "--label", "1", "--label", "3,4").json["labels"]
    assert apart == ["1", "3", "4", "1"]


def test_a_class_with_a_comma_in_its_name_is_one_class() -> None:
    from types import SimpleNamespace

    from carrara.cli.sample import labels_of
    from carrara.conditions.label import LabelCondition

    classes = ("cats, dogs", "birds")
    fake: Any = SimpleNamespace(classes=classes, condition=LabelCondition(classes))
    assert labels_of(fake, 3, ["cats, dogs"]) == [0, 0, 0]
    assert labels_of(fake, 3, ["birds,0"]) == [1, 0, 1]


def test_an_unconditional_model_has_no_labels(carrara: Run, discrete: Path) -> None:
    done = carrara("sample", discrete, "-n", 2, "--json")
    assert done.code == 0 and done.json["labels"] is None
    assert "labels" not in carrara("sample", discrete, "-n", 2).out


def test_the_film_has_a_frame_a_step_and_one(carrara: Run, here: Path, model: Path) -> None:
    done = carrara("sample", model, "-n", 20, "--steps", 4, "--gif", "film.gif", "--out", "sheet.png")
    assert done.code == 0 and "sheet.png and film.gif" in done.out
    with Image.open(here / "film.gif") as film:
        assert film.n_frames == 5


def test_to_replace_is_to_replace_all(carrara: Run, here: Path, model: Path) -> None:
    carrara("sample", model, "-n", 4, "--out", "many")
    (here / "many" / "notes.txt").touch()
    assert carrara("sample", model, "-n", 2, "--seed", 3, "--out", "many").code == 2
    assert carrara("sample", model, "-n", 2, "--seed", 3, "--out", "many", "--overwrite").code == 0
    names = sorted(path.name for path in (here / "many").iterdir())
    assert names == ["00003.png", "00004.png", "notes.txt", "samples.json"]


def test_only_files_of_the_folder_itself_are_ever_taken_away(here: Path) -> None:
    from carrara.cli.sample import clear

    (here / "outside.png").touch()
    (here / "many").mkdir()
    listing = here / "many" / "samples.json"
    for content in ({"samples": [{"file": "../outside.png"}, {"file": str(here / "outside.png")}]}, ["else"], 3):
        listing.write_text(json.dumps(content))
        clear(here / "many")
    listing.write_text("{")
    clear(here / "many")
    assert (here / "outside.png").is_file()


def test_bars_on_a_terminal(terminal: Callable[..., tuple[int, str]], model: Path) -> None:
    code, said = terminal("sample", model, "-n", 8, "--batch", 2, "--out", "sheet.png")
    assert code == 0 and "sampling" in said and "8/8" in said and "seeds       0 to 7" in said
