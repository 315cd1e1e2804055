"""`carrara evaluate --study`: the table, the files, going on, and what is refused."""

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
def mine(here: Path, model: Path) -> Path:
    return Path(shutil.copytree(model, here / "mine"))


def test_the_study_shows_every_cell_and_what_it_is_compared_with(carrara: Run, mine: Path, cheap: str) -> None:
    words = ("evaluate", mine, "--study", "noise", "--values", "2,3", "-n", 12, "--features", cheap)
    done = carrara(*words)
    assert done.code == 0 and not done.err
    lines = done.out.splitlines()
    head = next(line for line in lines if line.startswith("steps"))
    assert head.split()[:6] == ["steps", "sampled", "Fréchet", "precision", "recall", "coverage"]
    for row in ("2  eta 0 ", "3  eta 0.75 ", "3  mean only ", "–  held out ", "–  noise "):
        assert sum(line.strip().startswith(row) for line in lines) == 1, row
    assert "no guidance" in done.out and "12 of 12 samples, seeds 0 to 11" in done.out
    assert "sampled already" not in done.out
    assert (mine / "studies" / "noise.html").is_file()
    again = carrara(*words)
    assert "12 of them sampled already" in again.out
    assert not (mine / "figures.json").exists()


def test_json_is_the_file(carrara: Run, mine: Path, cheap: str) -> None:
    common = ("evaluate", mine / "model", "--study", "noise", "--features", cheap, "-n", 6, "--json")
    said = carrara(*common, "--values", "2", "--guidance-scale", 1.5, "--seed", 3, "--times", "karras").json
    kept = json.loads((mine / "studies" / "noise.json").read_text())
    assert all(said[name] == value for name, value in kept.items()) and said["warnings"] == []
    assert said["figures"] == str(mine / "studies" / "noise.json") and said["report"].endswith("noise.html")
    assert kept["sampling"]["guidance_scale"] == 1.5 and kept["sampling"]["times"] == {"kind": "karras"}
    assert kept["seed"] == 3 and kept["n"] == 6 and [cell["steps"] for cell in kept["cells"]] == [2] * 6
    assert kept["cells"][-1]["options"] == {"eta": 1.0, "temperature": 0.0}


def test_a_model_without_classes_is_studied_too(carrara: Run, here: Path, discrete: Path, cheap: str) -> None:
    shutil.copytree(discrete, here / "alone")
    words = ("evaluate", "alone", "--study", "noise", "--values", "2", "-n", 6, "--features", cheap, "--json")
    done = carrara(*words)
    assert done.code == 0, done.err
    assert all(cell["apart_in_class"] is None and cell["apart"] > 0 for cell in done.json["cells"])


def test_ctrl_c_says_how_to_go_on(mine: Path, cheap: str, here: Path) -> None:
    words = ["evaluate", str(mine), "--study", "noise", "--values", "2,1000", "-n", "40", "--features", cheap]
    env = {
        **os.environ,
        "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "carrara", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("cells"):
            break
    folder = mine / "studies" / "noise"
    while not list(folder.glob("[!.]*.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command goes on: carrara evaluate" in err
    assert list(folder.glob("[!.]*.safetensors")) and not (mine / "studies" / "noise.json").exists()


REFUSED = {
    "an unknown study": (
        "--study nois",
        "there is no study 'nois': did you mean 'noise'? allowed: guidance, noise, size, steps",
    ),
    "with metrics": ("--study noise --metrics frechet", "--study noise chooses --metrics itself; leave it out"),
    "with settings": ("--study noise --steps 3 --eta 0", "chooses --steps and --eta itself; leave them out"),
    "values alone": ("--values 3", "name the study too, such as --study noise"),
    "values that are none": ("--study noise --values 3,many", "--values: 'many' is not a number"),
    "no values": ("--study noise --values ,", "'' is not a number"),
    "half steps": ("--study noise --values 2.5", "2.5 is no number of steps"),
    "too many samples": ("--study noise -n 1000", "1000 samples a cell were asked for; this study needs 5 or more"),
    "too few samples": ("--study noise -n 2", "2 samples a cell were asked for"),
    "unknown features": ("--study noise --features inceptoin", "did you mean 'inception'"),
}


@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_studied_is_refused(words: str, sentence: str, carrara: Run, mine: Path) -> None:
    done = carrara("evaluate", mine, *words.split())
    assert done.code == 2 and sentence in done.err and done.err.count("\n") == 1, done.err
    assert not list(mine.rglob("studies/**/*.safetensors"))


def test_more_steps_than_a_table_has_are_refused(carrara: Run, here: Path, discrete: Path) -> None:
    shutil.copytree(discrete, here / "alone")
    done = carrara("evaluate", "alone", "--study", "noise", "--values", "10,2000", "-n", 6)
    assert done.code == 2 and "only 1000 discrete steps" in done.err


def test_the_pace_is_what_was_done_in_its_time_and_what_is_left_at_that_pace() -> None:
    from carrara.cli.voice import pace

    assert pace(50, 100, 10.0) == ", 5.0 a second, 20 s left"
    assert pace(1, 125, 1.0) == ", 1.0 a second, 2 min 5 s left"
    assert pace(10, 100_000, 1.0) == ", 10.0 a second, 2 h 46 min left"
    assert pace(10, 0, 1.0) == ", 10.0 a second" and pace(0, 9, 1.0) == pace(3, 9, 0.0) == ""


def test_plain_lines_of_progress_tell_the_pace_of_their_own_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from carrara.cli import voice

    clock = iter([0.0, 0.0, 20.0, 30.0, 50.0])
    monkeypatch.setattr(voice.time, "monotonic", lambda: next(clock))
    with voice.Voice().counting() as report:
        for stage, done in (("a", 100), ("a", 120), ("b", 0), ("b", 40)):
            report(stage, done, 200)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "a: 120 of 200, 1.0 a second, 1 min 20 s left"
    assert last == "b: 40 of 200, 2.0 a second, 1 min 20 s left"


def test_help_and_completion_know_the_studies() -> None:
    from carrara.cli import names
    from carrara.evaluation.studies import STUDIES

    assert list(names.STUDIES) == sorted(STUDIES) and names.complete_study("no") == ["noise"]
