"""What cannot be done is refused with one sentence, exit code 2 and nothing begun."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

TRAINING = {
    "an unknown recipe": ("train digts", "no recipe 'digts': did you mean 'digits'?"),
    "an unknown section": ("train digits --set netwrk.width=8", "unknown section 'netwrk': did you mean 'network'?"),
    "an unknown key": (
        "train digits --set network.widht=8",
        "network.widht is an unknown key: did you mean 'width'?",
    ),
    "a wrong type": (
        "train digits --set network.width=wide",
        "network.width is 'wide': input should be a valid integer",
    ),
    "a folder of pictures": ("train folder", "carrara train fashion --set data.kind=folder --set data.path=folder"),
    "what is no text": ("train latin.yaml", "latin.yaml is not UTF-8 text at byte 7, so it is no recipe"),
    "no YAML": ("train digits --set network.width=[", "not valid YAML"),
    "no change": ("train digits --set network.width", "--set 'network.width' is not of the form section.key=value"),
    "an empty folder": ("train folder.yaml", "empty"),
    "no such folder": ("train gone.yaml", "gone"),
    "both dials": ("train digits --minutes 1 --images 32", "either --minutes or --images"),
    "no minutes": ("train digits --minutes 0", "a run of 0.0 minutes is not possible"),
    "endless minutes": ("train digits --minutes inf", "a run of inf minutes is not possible"),
    "no images": ("train digits --images 0", "a run of 0 images is not possible"),
    "a bad seed": ("train digits --seed -1", "seed is -1"),
    "a file as folder": ("train digits --out file", "cannot write into file"),
    "a path under a file": ("train digits --out file/run", "cannot write into file/run"),
    "a folder of other things": ("train digits --out folder", "folder exists and is not a run"),
    "noise predicted from noise alone": (
        "train digits --set schedule.kind=linear_beta --set schedule.zero_terminal=true --set prediction.kind=eps",
        "Choose prediction v",
    ),
    "more steps than there are": (
        "train digits --set schedule.kind=linear_beta --set schedule.steps=10 --set sampling.steps=11",
        "only 10 discrete steps",
    ),
    "an unknown option of the grid": (
        "train digits --set sampling.times.kind=karras --set sampling.times.roh=3",
        "has no option 'roh': did you mean 'rho'?",
    ),
    "an option of the grid that is no number": (
        "train digits --set sampling.times.kind=karras --set sampling.times.rho=big",
        "rho of the grid of times 'karras' is 'big'",
    ),
    "a distillation without its teacher": (
        "train distill",
        "there is no teacher in runs/fashion: no such folder. Train one first",
    ),
    "a teacher that is not there": (
        "train distill --teacher nowhere",
        "there is no teacher in nowhere: no such folder",
    ),
    "a teacher that is no model": ("train distill --teacher folder", "there is no teacher in folder: it holds no"),
    "a teacher for who needs none": ("train digits --teacher folder", "the recipe digits has no teacher"),
    "a student unlike its teacher": (
        "train distill --teacher folder --set network.width=8",
        "--set network.width=8: a student's network is its teacher's; leave it out",
    ),
    "a grid without its kind": (
        "train digits --set sampling.times={rho:3}",
        "times is {'rho:3': None}; it needs a kind",
    ),
}

SAMPLING = {
    "no model": ("sample nowhere", "nowhere"),
    "no samples": ("sample MODEL -n 0", "0 samples were asked for"),
    "fewer than none": ("sample MODEL -n -3", "-3 samples were asked for"),
    "no steps": ("sample MODEL --steps 0", "0 sampling steps were asked for"),
    "more steps than there are": ("sample DISCRETE --steps 1001", "only 1000 discrete steps; ask for 1000 or fewer"),
    "an unknown sampler": ("sample MODEL --sampler huen", "no sampler 'huen': did you mean 'heun'?"),
    "an option the sampler lacks": ("sample MODEL --eta 0.5", "the sampler 'euler' has no option 'eta'"),
    "unknown times": ("sample MODEL --times karas", "no grid of times called 'karas': did you mean 'karras'?"),
    "an unknown option of the times": (
        "sample MODEL --times karras:roh=3",
        "has no option 'roh': did you mean 'rho'?",
    ),
    "times of no number": ("sample MODEL --times karras:rho=x", "rho='x' is not a number"),
    "an unknown label": ("sample MODEL --label 10", "no class '10'"),
    "more labels than samples": ("sample MODEL -n 1 --label 1,2", "2 labels were given for 1 samples"),
    "a label without classes": ("sample DISCRETE --label 1", "unconditional"),
    "guidance of no number": ("sample MODEL --guidance-scale nan", "guidance_scale is nan; it is a number"),
    "endless guidance": ("sample MODEL --guidance-scale inf", "guidance_scale is inf; it is a number"),
    "a run that is not finished": (
        "sample unfinished",
        "unfinished is a run that is not finished, and has no model yet",
    ),
    "guidance without classes": ("sample DISCRETE --guidance-scale 2", "guidance_scale 2 needs a conditional model"),
    "an output that exists": ("sample MODEL --out taken.png", "--out taken.png exists"),
    "a folder that is not empty": ("sample MODEL --out folder", "--out folder exists and is not empty"),
    "a film that exists": ("sample MODEL --out new.png --gif taken.gif", "--gif taken.gif exists"),
    "a film of another format": ("sample MODEL --out new.png --gif film.mp4", "must end with .gif"),
    "a picture of another format": ("sample MODEL --out new.jpg", "ends with .png"),
    "a text of pictures": ("sample MODEL --out new.txt", "ends with .png for one file"),
    "a page of pictures": ("sample MODEL --html film.html", "films of pictures are --gif FILE.gif"),
    "tokens drawn of numbers": (
        "sample MODEL --top-k 3",
        "--top-k 3: the sampler 'euler' has no option 'top_k'; no sampler of numbers does",
    ),
    "a temperature of the ODE": ("sample MODEL --temperature 0.5", "choose one that does: ancestral"),
    "a picture under a file": ("sample MODEL --out file/x.png", "--out file/x.png: cannot write into file"),
    "a folder under a file": ("sample MODEL --out file/x", "--out file/x: cannot write into file/x"),
    "a film under a file": ("sample MODEL --out new.png --gif file/x.gif", "--gif file/x.gif: cannot write"),
    "a file as folder": ("sample MODEL --out file", "cannot write into file"),
}

MEASURING = {
    "an unknown metric": ("evaluate MODEL --metrics frechett", "no metric 'frechett': did you mean 'frechet'?"),
    "classes without classes": ("evaluate DISCRETE --metrics classes", "no labels"),
    "too few samples": ("evaluate MODEL -n 1", "1 samples are too few: frechet needs 2 or more"),
    "no samples": ("evaluate MODEL -n 0 --metrics classes", "0 samples were asked for"),
    "unknown features": ("evaluate MODEL --features incepton", "did you mean 'inception'?"),
    "more steps than there are": ("evaluate DISCRETE --steps 1001", "only 1000 discrete steps"),
}

REST = {
    "unknown data": ("data digts", "no recipe or dataset 'digts': did you mean 'digits'?"),
    "data without its path": (
        "data folder --set size=8",
        "data.path is missing; folder cannot be made without it: give it, as in data.path=…",
    ),
    "an empty folder": ("data empty --set size=8", "empty"),
    "an unknown option": ("data digits --set size=8", "data.size is an unknown key"),
    "examples that exist": ("data digits --out taken.png", "--out taken.png exists"),
    "examples under a file": ("data digits --out file/x.png", "cannot write into file"),
    "an unknown recipe": ("recipe show digts", "did you mean 'digits'?"),
    "no file": ("recipe check digits", "no file digits"),
    "a recipe that cannot be": ("recipe check eps.yaml", "Choose prediction v"),
    "a recipe that is no mapping": ("recipe check taken.png", "must be a mapping"),
}

ALL = {
    f"{command}: {what}": case
    for command, cases in {"train": TRAINING, "sample": SAMPLING, "evaluate": MEASURING, "rest": REST}.items()
    for what, case in cases.items()
}


@pytest.fixture
def place(here: Path) -> Path:
    """A folder with things in the way."""
    for name in ("file", "taken.png", "taken.gif"):
        (here / name).write_text("in the way")
    (here / "folder").mkdir()
    (here / "folder" / "mine.txt").touch()
    (here / "empty").mkdir()
    (here / "folder.yaml").write_text("data: {kind: folder, path: empty, size: 8}")
    (here / "gone.yaml").write_text("data: {kind: folder, path: gone, size: 8}")
    (here / "latin.yaml").write_bytes("name: d\u00fcne".encode("latin-1"))
    (here / "unfinished").mkdir()
    (here / "unfinished" / "run.json").write_text("{}")
    (here / "eps.yaml").write_text(
        "data: {kind: digits}\nschedule: {kind: linear_beta, zero_terminal: true}\nprediction: {kind: eps}"
    )
    return here


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize("case", ALL)
def test_refused_in_one_sentence(
    carrara: Run, place: Path, model: Path, discrete: Path, case: str, as_json: bool
) -> None:
    words, said = ALL[case]
    before = contents(place)
    given = [{"MODEL": model, "DISCRETE": discrete}.get(word, word) for word in words.split()]
    done = carrara(*given, *["--json"] * as_json)
    assert done.code == 2
    assert re.fullmatch(r"carrara: [^\n]+\n", done.err) and said in done.err
    if as_json:
        assert done.json == {"error": done.err[len("carrara: ") : -1], "exit_code": 2}
    assert contents(place) == before


def test_a_run_of_another_recipe_or_length_is_refused(carrara: Run, model: Path, tiny: list[str]) -> None:
    other = carrara("train", "digits", "--images", 256, "--out", model, *tiny, "--seed", 5)
    assert other.code == 2 and "another recipe (seed was 0 and is now 5)" in other.err
    longer = carrara("train", "digits", "--images", 512, "--out", model, *tiny)
    assert longer.code == 2 and "was begun with --images 256" in longer.err


def test_weights_of_other_shapes_are_refused_by_name(
    carrara: Run, here: Path, model: Path, tamper: Callable[..., None]
) -> None:
    shutil.copytree(model / "model", here / "mine")
    about = json.loads((here / "mine" / "model.json").read_text())
    about["recipe"]["network"]["width"] = 16
    tamper(here / "mine", "model.json", json.dumps(about).encode())
    done = carrara("sample", "mine")
    assert done.code == 2 and "network.safetensors belongs to another recipe" in done.err and "shape" in done.err


def test_damaged_weights_are_named(carrara: Run, here: Path, model: Path) -> None:
    shutil.copytree(model / "model", here / "mine")
    with (here / "mine" / "network.safetensors").open("r+b") as file:
        file.truncate(1000)
    done = carrara("sample", "mine", "--json")
    assert done.code == 1 and done.json["exit_code"] == 1
    assert "mine/network.safetensors is damaged" in done.err


def test_figures_that_cannot_be_added_to_are_told_before_anything_is_measured(
    carrara: Run, here: Path, model: Path
) -> None:
    shutil.copytree(model, here / "mine")
    (here / "mine" / "figures.json").write_text("x")
    done = carrara("evaluate", "mine", "-n", 8, "--metrics", "neighbours")
    assert done.code == 1 and "mine/figures.json is not readable as JSON" in done.err and "Move it away" in done.err
    assert "sampling" not in done.out and (here / "mine" / "figures.json").read_text() == "x"


def test_a_damaged_model_of_a_run_is_written_again(carrara: Run, here: Path, model: Path, tiny: list[str]) -> None:
    shutil.copytree(model, here / "mine")
    weights = here / "mine" / "model" / "network.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(b"")
    done = carrara("sample", "mine")
    assert (
        done.code == 1 and "remove mine/model, and the carrara train command that made it writes it again" in done.err
    )
    shutil.rmtree(here / "mine" / "model")
    assert carrara("train", "digits", "--images", 256, "--out", "mine", *tiny).code == 0
    assert weights.read_bytes() == before
