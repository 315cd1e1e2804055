from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara import files
from carrara.data import cache
from carrara.data.cache import About, Staging, cached
from carrara.data.dataset import Dataset
from carrara.errors import DataError, RunError

SHAPE = (1, 3, 2)
ABOUT = About("toy", {"kind": "toy"}, ("a", "b"), "CC0", "here")


def build(staging: Staging) -> None:
    media = np.arange(30, dtype=np.uint8).reshape(5, *SHAPE)
    staging.add(False, media[:2], [0, 1], ["nought", "one"])
    staging.add(True, media[2:3], [0], ["two"])
    staging.add(False, media[3:], [1, 1], ["three", "fôur"])
    staging.finish(ABOUT, ["a note"])


def never(staging: Staging) -> None:
    raise AssertionError("a whole dataset was built again")


def same(one: Dataset, other: Dataset) -> bool:
    return one.fingerprint == other.fingerprint and one.summary() == other.summary()


def test_what_was_added_comes_back_memory_mapped() -> None:
    dataset = cached("toy", SHAPE, build)
    assert isinstance(dataset.train.media, np.memmap)
    assert dataset.train.media[:, 0, 0, 0].tolist() == [0, 6, 18, 24]
    assert dataset.train.labels.tolist() == [0, 1, 1, 1]
    assert dataset.train.captions == ("nought", "one", "three", "fôur")
    assert dataset.heldout.media.ravel().tolist() == list(range(12, 18))
    assert dataset.notes == ("a note",)


def test_the_second_time_nothing_is_built() -> None:
    assert same(cached("toy", SHAPE, build), cached("toy", SHAPE, never))


def test_nothing_but_the_dataset_stays_behind(cache: Path) -> None:
    cached("toy", SHAPE, build)
    assert [path.name for path in (cache / "datasets").iterdir()] == ["toy"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["train.npy", "heldout.npy", "meta.json"]), st.floats(0, 1, exclude_max=True), st.integers(1, 255)
)
def test_any_damaged_byte_is_found_or_harmless(cache: Path, name: str, where: float, change: int) -> None:
    before = cached("toy", SHAPE, build)
    file = cache / "datasets" / "toy" / name
    raw = bytearray(file.read_bytes())
    raw[int(where * len(raw))] ^= change
    file.write_bytes(raw)
    assert same(cached("toy", SHAPE, build), before)


@pytest.mark.parametrize("name", ["train.npy", "heldout.npy", "meta.json"])
@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_file_is_made_again(cache: Path, name: str, length: int) -> None:
    before = cached("toy", SHAPE, build).summary()
    file = cache / "datasets" / "toy" / name
    file.write_bytes(file.read_bytes()[:length])
    assert cached("toy", SHAPE, build).summary() == before
    assert cached("toy", SHAPE, never).summary() == before


@pytest.mark.parametrize("name", ["train.npy", "heldout.npy", "meta.json"])
def test_a_missing_file_is_made_again(cache: Path, name: str) -> None:
    before = cached("toy", SHAPE, build).summary()
    (cache / "datasets" / "toy" / name).unlink()
    assert cached("toy", SHAPE, build).summary() == before


def test_of_two_builds_at_once_both_end_with_the_same_files(cache: Path) -> None:
    inner: list[Dataset] = []

    def slow(staging: Staging) -> None:
        inner.append(cached("toy", SHAPE, build))
        build(staging)

    assert same(cached("toy", SHAPE, slow), inner[0])
    assert [path.name for path in (cache / "datasets").iterdir()] == ["toy"]


def test_a_damaged_dataset_found_at_the_end_of_a_build_is_replaced(cache: Path) -> None:
    def slow(staging: Staging) -> None:
        cached("toy", SHAPE, build)
        (cache / "datasets" / "toy" / "train.npy").write_bytes(b"damaged")
        build(staging)

    dataset = cached("toy", SHAPE, slow)
    assert same(dataset, cached("toy", SHAPE, never))


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError])
def test_a_build_that_fails_leaves_nothing(cache: Path, error: type[BaseException]) -> None:
    def fail(staging: Staging) -> None:
        staging.add(False, np.zeros((1, *SHAPE), np.uint8), [0])
        raise error("stop")

    with pytest.raises(error):
        cached("toy", SHAPE, fail)
    assert list((cache / "datasets").iterdir()) == []


def _killed_at(moment: str) -> Callable[[Path], None]:
    code = f"""
import os, signal
from carrara.data import cache
import test_cache
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def build(staging):
    test_cache.build(staging)
    {"die()" if moment == "before the rename" else ""}
if {moment == "before meta.json"}:
    cache._check = die
cache.cached("toy", test_cache.SHAPE, build)
"""

    def run(folder: Path) -> None:
        environment = {**os.environ, "CARRARA_CACHE": str(folder), "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr

    return run


@pytest.mark.parametrize("moment", ["before meta.json", "before the rename"])
def test_a_killed_build_leaves_no_dataset_and_the_next_one_succeeds(cache: Path, moment: str) -> None:
    _killed_at(moment)(cache)
    assert not (cache / "datasets" / "toy").exists()
    assert len(cached("toy", SHAPE, build).train) == 4


def test_what_a_killed_build_left_is_swept_away_after_a_week(cache: Path) -> None:
    old, new = (cache / "datasets" / f".staging-{word}" for word in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    cached("toy", SHAPE, build)
    assert (old.exists(), new.exists()) == (False, True)


def test_an_empty_split_is_refused(cache: Path) -> None:
    def lopsided(staging: Staging) -> None:
        staging.add(False, np.zeros((1, *SHAPE), np.uint8), [0])
        staging.finish(ABOUT)

    with pytest.raises(DataError, match="no heldout picture is left in the dataset toy"):
        cached("toy", SHAPE, lopsided)


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot be written.*set CARRARA_CACHE to another folder"):
        cached("toy", SHAPE, build)


def test_a_disk_that_damages_every_write_is_not_tried_for_ever(cache: Path) -> None:
    tries: list[int] = []

    def damaging(staging: Staging) -> None:
        tries.append(1)
        build(staging)
        next((cache / "datasets").glob(".staging-*/train.npy")).write_bytes(b"noise")

    with pytest.raises(RunError, match="damaged 3 times in a row"):
        cached("toy", SHAPE, damaging)
    assert len(tries) == 3


def test_the_key_changes_with_kind_option_path_size_and_time() -> None:
    entry = ("a/b.png", 10, 20)
    keys = [
        cache.key("folder", {"size": 8}, [entry]),
        cache.key("emoji", {"size": 8}, [entry]),
        cache.key("folder", {"size": 9}, [entry]),
        cache.key("folder", {"size": 8}, [("a/c.png", 10, 20)]),
        cache.key("folder", {"size": 8}, [("a/b.png", 11, 20)]),
        cache.key("folder", {"size": 8}, [("a/b.png", 10, 21)]),
        cache.key("folder", {"size": 8}, [entry, entry]),
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"CARRARA_CACHE": "/somewhere"}, "/somewhere"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/carrara"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/carrara"),
        ({}, "/home/me/.cache/carrara"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have places of their own")
def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: str) -> None:
    for name in ("CARRARA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    assert files.cache_dir() == Path(place)
