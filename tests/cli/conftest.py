"""The command line run in this process, and two small runs that it has trained."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carrara.cli import main

TINY = (
    "network.width=8",
    "training.batch=32",
    "training.previews=1",
    "training.precision=float32",
    "training.kernels=native",
    "sampling.sampler=euler",
    "sampling.steps=3",
)
DISCRETE = (
    *TINY[:-2],
    "schedule.kind=linear_beta",
    "prediction.kind=eps",
    "weight.kind=simple",
    "train_times.kind=discrete",
    "sampling.sampler=ancestral",
    "sampling.steps=3",
)


CHEAP = '''
"""Features that cost nothing: the pictures, averaged to four by four."""

from torch.nn import functional as F


class Cheap:
    name, dim, sha256, resizer = "cheap@4", 16, "0" * 64, "area"

    def __call__(self, images):
        return F.adaptive_avg_pool2d(images.float(), 4).mean(1).flatten(1)
'''


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that stdout holds."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON objects that stdout holds, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def run(*words: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    assert "--debug" in words or "Traceback" not in out.getvalue() + err.getvalue()
    return Outcome(code, out.getvalue(), err.getvalue())


def settings(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.fixture(scope="package", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread for the small runs and in subprocesses too, and a cache that belongs to the tests."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CARRARA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="package")
def carrara() -> Callable[..., Outcome]:
    """carrara("sample", path, ...): the Outcome; no traceback is ever shown."""
    return run


@pytest.fixture(scope="package")
def tiny() -> list[str]:
    """The options that make a recipe tiny."""
    return settings(*TINY)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The folder of a complete run, not to be changed, and what its training said."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return folder, run("train", "digits", "--images", 256, "--out", folder, *settings(*TINY))


@pytest.fixture(scope="package")
def model(trained: tuple[Path, Outcome]) -> Path:
    """The folder of a complete run, not to be changed."""
    assert trained[1].code == 0, trained[1].err
    return trained[0]


@pytest.fixture(scope="package")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a complete run on a schedule of 1000 steps, unconditional; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "discrete"
    changes = (*DISCRETE, "condition.kind=none")
    done = run("train", "digits", "--images", 32, "--out", folder, *settings(*changes))
    assert done.code == 0, done.err
    return folder / "model"


@pytest.fixture
def cheap(here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What --features takes for features that cost nothing; their module is beside the run."""
    (here / "cheap_features.py").write_text(CHEAP)
    monkeypatch.syspath_prepend(str(here))
    return "cheap_features:Cheap"


@pytest.fixture(scope="package")
def tamper() -> Callable[[Path, str, bytes], None]:
    """tamper(folder, name, content): changes a file and its hash in the manifest."""

    def change(folder: Path, name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


@pytest.fixture
def terminal(here: Path) -> Callable[..., tuple[int, str]]:
    """terminal("train", ...): exit code and all that was written to a pseudo terminal of 100 columns."""
    pty = pytest.importorskip("pty", reason="needs pseudo terminals")

    def drive(*words: object) -> tuple[int, str]:
        import sys

        pid, handle = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS="100", LINES="30")
            os.execv(sys.executable, [sys.executable, "-m", "carrara", *map(str, words)])
        said = b""
        with contextlib.suppress(OSError):
            while part := os.read(handle, 65536):
                said += part
        os.close(handle)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()

    return drive
