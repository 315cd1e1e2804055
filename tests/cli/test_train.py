"""`carrara train` from its first line to its report, stopped and gone on with."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carrara.native.common import usable
from carrara.training.computing import Computing
from carrara.training.trainable import Diffusion

Run = Callable[..., Any]


def test_a_run_says_what_it_does_and_where_all_is(trained: tuple[Path, Any]) -> None:
    folder, done = trained
    assert done.code == 0 and not done.err
    words = [line.split(None, 1) for line in done.out.splitlines() if line[:1].isalpha()]
    said = dict(words)
    assert said["recipe"] == "digits, seed 0, 256 images"
    assert said["data"] == "digits: 1,437 to train on, 360 held out, 1×8×8"
    assert re.fullmatch(r"[\d,]+ parameters", said["network"])
    assert said["computing"] == f"1 thread, {Computing(kernels='native' if usable() else 'torch')}"
    assert said["folder"] == f"{folder} (a new run)"
    assert said["complete"].startswith("256 images in ") and "held-out loss" in said["complete"]
    assert said["model"] == str(folder / "model") and (folder / "model" / "model.json").is_file()
    assert said["report"] == str(folder / "report.html") and Path(said["report"]).is_file()
    assert said["next"] == f"carrara sample {folder}"
    assert re.search(
        r"^256 of 256 images  loss \d\.\d+  held-out \d\.\d+  [\d,]+ images/s  0 s left$", done.out, re.M
    )


def test_a_complete_run_is_left_as_it_is(carrara: Run, model: Path, tiny: list[str]) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in model.rglob("*") if path.is_file()}
    done = carrara("train", "digits", "--images", 256, "--out", model, *tiny)
    assert done.code == 0 and "complete: nothing is left to do" in done.out
    assert str(model / "report.html") in done.out and f"carrara sample {model}" in done.out
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in model.rglob("*") if path.is_file()
    }


def test_without_a_dial_a_run_keeps_its_own(carrara: Run, model: Path, tiny: list[str]) -> None:
    assert carrara("train", "digits", "--out", model, *tiny).code == 0


def test_json_is_an_object_a_line(carrara: Run, tiny: list[str]) -> None:
    done = carrara("train", "digits", "--images", 64, "--out", "run", "--json", *tiny)
    start, *middle, end = done.lines
    assert done.code == 0 and not done.err
    assert (start["event"], start["recipe"], start["resumed_from"]) == ("start", "digits", 0)
    assert {line["event"] for line in middle} == {"progress"} and middle[-1]["images"] == 64
    assert middle[-1]["seconds_left"] == 0 and 0 < middle[-1]["heldout_loss_ema"] < 10
    assert end["event"] == "end" and Path(end["report"]).is_file() and end["next"] == "carrara sample run"


def test_the_newest_checkpoint_if_damaged_is_named(carrara: Run, here: Path, tiny: list[str]) -> None:
    words = ("train", "digits", "--images", 96, "--out", "run", *tiny, "--set", "training.checkpoint_s=0")
    assert carrara(*words).code == 0
    shutil.rmtree(here / "run" / "model")
    newest = max((here / "run" / "checkpoints").iterdir()) / "denoiser.average.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    done = carrara(*words)
    assert done.code == 0 and (here / "run" / "model").is_dir() and "(going on from 64 images)" in done.out
    (line,) = done.err.splitlines()
    assert re.match(r"carrara: .*average.safetensors is damaged", line)


def begin(tiny: list[str]) -> subprocess.Popen[str]:
    words = ["train", "digits", "--images", "100000", "--out", "my run", "--json", *tiny]
    return subprocess.Popen(
        [sys.executable, "-m", "carrara", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_stopped_it_saves_and_says_how_to_go_on(here: Path, tiny: list[str]) -> None:
    seen = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = begin(tiny)
        assert process.stdout is not None
        start, first = (json.loads(process.stdout.readline()) for _ in range(2))
        assert start["resumed_from"] == seen and first["images"] > seen
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == code and "Traceback" not in err
        line = f"carrara train digits --images 100000 --out 'my run' --json {' '.join(tiny)}"
        sentence, how = err.splitlines()
        assert how == f"The same command goes on: {line}"
        stopped = re.fullmatch(r"carrara: (Stopped after (\d+) images, and saved in my run\.)", sentence)
        assert stopped is not None
        seen = int(stopped[2])
        assert json.loads(out.splitlines()[-1]) == {"error": stopped[1], "exit_code": code, "goes_on": line}
        assert [path.name for path in (here / "my run" / "checkpoints").iterdir()][-1:] != []


def test_nothing_learnt_is_lost_when_the_reader_goes_away(here: Path, tiny: list[str]) -> None:
    process = begin(tiny)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() not in (0, None)
    assert list((here / "my run" / "checkpoints").glob("*/state.json"))


def test_a_bar_moves_on_a_terminal(terminal: Callable[..., tuple[int, str]], tiny: list[str]) -> None:
    code, said = terminal("train", "digits", "--images", 1024, "--out", "run", *tiny)
    assert code == 0 and "\x1b[?25l" in said
    frames = {int(n.replace(",", "")) for n in re.findall(r"([\d,]+)/1,024", re.sub(r"\x1b\[[\d;?]*\w", "", said))}
    assert 1024 in frames and len(frames) > 2 and "carrara sample run" in said


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (60, "1:00"), (187, "3:07"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float, words: str) -> None:
    from carrara.cli.training import duration

    assert duration(seconds) == words


def test_threads_are_the_cores_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from carrara.cli import threads

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(threads, "cores", lambda: 6)
    assert threads.use_cores() == torch.get_num_threads() and asked == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads.use_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    threads.use_cores()
    assert asked == [6, 1]


def test_where_held_out_data_was_known_better_it_is_said(
    carrara: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"saved=best": "saved       the averaged", "saved=last": "best        after 192 images"}
    for number, (change, said) in enumerate(told.items()):
        losses = iter([2.0, 2.0, 1.0, 1.0, 1.5, 1.5])
        monkeypatch.setattr(Diffusion, "heldout", lambda self, losses=losses: {"heldout_loss": next(losses)})
        words = ("--images", 256, "--out", f"run{number}", *tiny, "--set", "training.previews=3")
        done = carrara("train", "digits", *words, "--set", f"training.{change}")
        (line,) = (line for line in done.out.splitlines() if line.startswith(("saved", "best")))
        assert done.code == 0 and line.startswith(said) and "when the held-out loss was least (1.0000)" in line
    again = carrara("train", "digits", *words, "--set", "training.saved=last", "--json")
    assert again.lines[-1]["best"] == {"images": 192, "heldout_loss": 1.0, "heldout_loss_ema": 1.0}


def test_where_it_has_not_risen_nothing_is_said(trained: tuple[Path, Any]) -> None:
    assert not re.search("^(best|saved) ", trained[1].out, re.M)
