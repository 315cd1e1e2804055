"""What the command line does to the process it runs in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrara.cli import threads

FAULTS = """
import resource, sys
import torch
from carrara.cli.threads import keep_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep" and not keep_memory():
    sys.exit(3)
def step():
    kept = [torch.ones(1 << 20) for _ in range(16)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


MAPPED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
"""A fixed threshold: by itself glibc raises it with what is freed, and whether memory then stays depends on what lies above it."""


def faults(how: str) -> int:
    words = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | MAPPED)
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_memory_that_is_kept_is_not_cleared_again() -> None:
    assert faults("keep") < 1000 < faults("plain")


@pytest.mark.parametrize(
    ("load", "spins"),
    [
        ("0.10 0.20 0.30 1/120 4711\n", threads.ALONE),
        ("0.00 0.00 0.00 0/1 1\n", threads.ALONE),
        ("1.90 2.00 2.00 3/120 4711\n", threads.BESIDE),
        ("1.00 1.00\n", threads.BESIDE),
        (None, threads.BESIDE),
    ],
)
def test_threads_look_for_work_longer_where_nobody_else_works(
    load: str | None, spins: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if load is not None:
        (tmp_path / "load").write_text(load)
    monkeypatch.setattr(threads, "LOAD", tmp_path / "load")
    for given in ({}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "passive"}):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        threads.rest_when_idle()
        expected = {} if "OMP_WAIT_POLICY" in given else {"GOMP_SPINCOUNT": spins}
        found = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ}
        assert found == {**expected, **given}
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000\n", 8), ("150000 100000\n", 2), ("50000 100000\n", 1), ("1600000 100000\n", 8), ("", 8), (None, 8)],
)
def test_a_container_has_no_more_cores_than_it_has_the_time_of(
    quota: str | None, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if quota is not None:
        (tmp_path / "quota").write_text(quota)
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "quota")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert threads.cores() == cores
