"""`carrara compare`: the tables, the files, going on, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def pair(here: Path, model: Path, carrara: Run) -> list[str]:
    """A run, and a folder of its samples."""
    shutil.copytree(model, here / "mine")
    assert carrara("sample", "mine", "-n", 12, "--out", "drawn").code == 0
    return ["mine", "drawn"]


def test_the_tables_show_every_thing_beside_real_pictures_and_noise(
    carrara: Run, pair: list[str], cheap: str, here: Path
) -> None:
    words = ("compare", *pair, "--features", cheap)
    done = carrara(*words)
    assert done.code == 0 and not done.err, done.err
    lines = done.out.splitlines()
    assert "n           12 of each: drawn has 12 pictures" in lines
    heads = [line.split()[:3] for line in lines if "↓" in line or "↑" in line]
    assert (
        ["n", "Fréchet", "↓"] in heads
        and ["n", "precision", "↑"] in heads
        and ["model", "sampled", "parameters"] in heads
    )
    for name in ("mine ", "drawn ", "held-out pictures ", "noise "):
        assert sum(line.startswith(name) for line in lines) == (3 if name == "mine " else 2), name
    mine, drawn = (next(line for line in lines if line.startswith(name)).split()[1:] for name in ("mine ", "drawn "))
    assert mine == drawn
    assert "drawn: read as asked: only a model that is asked" in done.out
    assert {path.name for path in (here / "compare").iterdir()} == {"compare.html", "compare.json", "kept"}
    assert "sampled already" not in done.out and "1 of 1 blocks sampled already" in carrara(*words).out


def test_json_is_the_file(carrara: Run, pair: list[str], cheap: str, here: Path) -> None:
    options = ("--steps", 2, "--sampler", "ddim", "--times", "karras", "--seed", 4, "-n", 8, "--batch", 5)
    options += ("--backend", "torch-bf16")
    said = carrara("compare", *pair, "--features", cheap, "--out", "there", *options, "--json").json
    kept = json.loads((here / "there" / "compare.json").read_text())
    assert all(said[name] == value for name, value in kept.items())
    assert said["figures"] == "there/compare.json" and said["report"] == "there/compare.html"
    first, second = kept["things"]
    assert (first["sampling"]["sampler"], first["sampling"]["steps"]) == ("ddim", 2) and kept["seed"] == 4
    assert first["sampling"]["times"] == {"kind": "karras"} and first["cost"]["batch"] == 5
    assert first["cost"]["backend"] == "torch-bf16"
    assert first["n"] == second["n"] == 8 and second["cost"] is None
    assert [row["name"] for row in kept["scale"]] == ["held-out pictures", "noise"]


@pytest.mark.parametrize("reference", ["digits", "data.yaml", "drawn"])
def test_the_reference_is_a_dataset_or_a_folder(
    reference: str, carrara: Run, pair: list[str], cheap: str, here: Path
) -> None:
    (here / "data.yaml").write_text("data: {kind: digits}\n")
    done = carrara("compare", "mine", "-n", 8, "--features", cheap, "--reference", reference)
    assert done.code == 0, done.err
    assert ("There is no row of held-out pictures" in done.out) == (reference == "drawn")
    assert (
        f"reference   all {'12 pictures in drawn' if reference == 'drawn' else '1,437 training pictures'}" in done.out
    )


def test_ctrl_c_says_how_to_go_on(pair: list[str], cheap: str, here: Path) -> None:
    words = ["compare", "mine", "--steps", "200", "-n", "300", "--batch", "8", "--features", cheap]
    path = f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "carrara", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    kept = here / "compare" / "kept"
    while not list(kept.glob("[!.]*.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command goes on: carrara compare mine" in err, err
    assert list(kept.glob("[!.]*.safetensors")) and not (here / "compare" / "compare.json").exists()


REFUSED = {
    "nothing": ("", "missing argument 'THING...'"),
    "nowhere": (
        "mine gone",
        "gone does not exist; what can be compared is a run or model folder, a folder of pictures",
    ),
    "twice": ("mine mine/", "mine is named 2 times"),
    "too many": ("drawn mine -n 13", "drawn has 12 pictures; give -n 12 or fewer"),
    "without a reference": ("drawn", "say it with --reference"),
    "an unknown reference": (
        "mine --reference digts",
        "there is no recipe or dataset 'digts': did you mean 'digits'?",
    ),
    "a reference that is gone": ("mine --reference gone.npz", "gone.npz is neither a folder nor an .npz file"),
    "an unknown sampler": ("mine --sampler huen", "mine: there is no sampler 'huen': did you mean 'heun'?"),
    "an option the sampler lacks": ("mine --eta 0.5", "mine: --eta 0.5: the sampler 'euler' has no option 'eta'"),
    "no size": ("mine --size 0", "--size"),
    "unknown features": ("mine --features inceptoin", "did you mean 'inception'"),
    "a file where the folder goes": ("mine --out cheap_features.py", "cannot write into cheap_features.py"),
}


@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared_is_refused(
    words: str, sentence: str, carrara: Run, pair: list[str], cheap: str, here: Path
) -> None:
    features = () if "--features" in words else ("--features", cheap)
    done = carrara("compare", *words.split(), *features)
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1, done.err
    assert not list(here.rglob("kept/*"))
