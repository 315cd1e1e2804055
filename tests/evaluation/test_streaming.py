"""Streamed features: the same in parts, resumed, and on two processes; never computed twice; refused when broken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pooled import Pooled
from streams import Torn, pictures
from torch import Tensor

from carrara import tensors
from carrara.errors import DataError, InputError, NonFinite
from carrara.evaluation import streaming
from carrara.evaluation.statistics import Moments
from carrara.evaluation.streaming import Selected, features_of, moments_of, streamed


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PART", 16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evaluation" / "features"


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100])
def test_parts_are_the_whole(n: int) -> None:
    images = pictures(n)
    found = features_of(images, Pooled())
    assert torch.equal(found, Pooled()(images)) and found.dtype == torch.float32
    assert [len(part) for part in streamed(images, Pooled())] == [16] * (n // 16) + [n % 16] * (n % 16 > 0)


def test_moments_are_those_of_all_features() -> None:
    images = pictures(100)
    whole, found = Moments(16), moments_of(images, Pooled())
    whole.update(Pooled()(images))
    assert found.n == 100
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.cov, whole.cov, rtol=1e-10, atol=1e-10)


def test_tensors_arrays_files_and_selections_are_pictures(tmp_path: Path) -> None:
    images = pictures(40, channels=1)
    np.save(tmp_path / "images.npy", images.numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.random.default_rng(0).permutation(40)[:30]
    for given in (images.numpy(), mapped):
        assert torch.equal(features_of(given, Pooled()), Pooled()(images))
    found = features_of(Selected(mapped, rows), Pooled())
    assert torch.equal(found, Pooled()(images[torch.from_numpy(rows)]))


def test_what_is_kept_is_not_computed_again_and_what_is_new_is() -> None:
    network = Pooled()
    first = features_of(pictures(64), network)
    assert network.seen == 64
    assert torch.equal(features_of(pictures(64), network), first) and network.seen == 64
    features_of(torch.cat([pictures(64), pictures(5, seed=1)]), network)
    assert network.seen == 69
    changed = pictures(64)
    changed[20, 0, 0, 0] ^= 1
    assert not torch.equal(features_of(changed, network), first) and network.seen == 69 + 16
    features_of(pictures(64).reshape(64, 3, 4, 16), network)
    assert network.seen == 69 + 16 + 64


@pytest.mark.parametrize("field", ["name", "sha256", "resizer"])
def test_other_features_are_kept_apart(field: str) -> None:
    features_of(pictures(16), Pooled())
    other = Pooled(**{field: "another"})
    features_of(pictures(16), other)
    assert other.seen == 16


def test_what_was_interrupted_goes_on_where_it_stopped() -> None:
    network = Pooled()
    with pytest.raises(DataError, match="picture 50 is gone"):
        features_of(Torn(pictures(100), at=50), network)
    assert network.seen == 48
    assert torch.equal(features_of(pictures(100), network), Pooled()(pictures(100)))
    assert network.seen == 100


def test_a_part_is_kept_before_the_next_is_begun() -> None:
    """A kill while the third is made costs the third."""
    network = Pooled()
    parts = streamed(pictures(100), network)
    next(parts), next(parts)
    parts.close()
    features_of(pictures(100), network)
    assert network.seen == 100


def test_a_damaged_or_unwritable_cache_costs_time_only(cache: Path, tmp_path: Path) -> None:
    first, network = features_of(pictures(32), Pooled()), Pooled()
    for file in cache.iterdir():
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    assert torch.equal(features_of(pictures(32), network), first) and network.seen == 32
    (tmp_path / "file").touch()
    assert torch.equal(features_of(pictures(32), network, cache=tmp_path / "file"), first)


def test_no_more_than_a_part_is_held_at_a_time() -> None:
    asked: list[int] = []

    class Watched:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, rows: slice, /) -> Tensor:
            asked.append(rows.stop - rows.start)
            return pictures(rows.stop - rows.start, seed=rows.start)

    network = Pooled()
    for _ in zip(range(3), streamed(Watched(), network), strict=False):
        pass
    assert max(asked) == 16 and network.seen <= 64
    assert moments_of(Watched(), network).n == 1000 and set(asked) == {16, 8}


def test_progress_rises_to_its_total_kept_or_not() -> None:
    for _ in range(2):
        calls: list[tuple[int, int]] = []
        features_of(pictures(40), Pooled(), progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert calls == [(16, 40), (32, 40), (40, 40)]


Broken = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda made: made * torch.nan, NonFinite, "pooled@4 hold NaN"),
        (lambda made: made[:, :5], InputError, r"\(16, 16\) of 16 pictures; got \(16, 5\)"),
        (lambda made: made[:3], InputError, r"got \(3, 16\)"),
    ],
)
def test_broken_features_are_refused_and_not_kept(
    change: Broken, error: type[Exception], sentence: str, cache: Path
) -> None:
    class Bad(Pooled):
        def __call__(self, images: Tensor, /) -> Tensor:
            return change(super().__call__(images))

    with pytest.raises(error, match=sentence):
        features_of(pictures(20), Bad())
    assert not list(cache.glob("*")) if cache.exists() else True
    assert features_of(pictures(20), Pooled()).isfinite().all()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.rand(20, 3, 8, 8), "uint8.*float32"),
        (pictures(20)[:, 0], r"\(B, C, H, W\)"),
        (pictures(20, channels=4), "1 channel"),
        (np.zeros((20, 3, 8, 8), np.float32), "uint8"),
    ],
)
def test_other_pictures_are_refused(images: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        features_of(images, Pooled())


def test_a_set_that_gives_fewer_than_it_has_is_refused() -> None:
    class Short:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, rows: slice, /) -> Tensor:
            return pictures(7)

    with pytest.raises(InputError, match="0 to 15 were asked for, 16 of them; got 7"):
        features_of(Short(), Pooled())


def together(cache: Path, out: Path, case: str) -> list[dict[str, Any]]:
    """What each of two processes tells."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("features_rank.py")), str(cache), str(out), case]
    ranks = [subprocess.Popen(words, env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("n", ["100", "65"])
def test_two_processes_are_one(n: str, tmp_path: Path) -> None:
    """And share the work: 7 parts are 4 and 3 of them, 5 are 3 and 2."""
    told = together(tmp_path / "kept", tmp_path, n)
    images, alone = pictures(int(n)), Pooled()
    moments, features = moments_of(images, Pooled()), features_of(images, Pooled())
    for rank in (0, 1):
        found = tensors.load(tmp_path / f"{rank}.safetensors")
        assert torch.equal(found["features"], features)
        torch.testing.assert_close(found["mean"], moments.mean, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(found["cov"], moments.cov, rtol=1e-6, atol=1e-12)
        assert told[rank]["calls"] == [[min(end, int(n)), int(n)] for end in range(16, int(n) + 16, 16)]
    assert [one["seen"] for one in told] == ([52, 48] if n == "100" else [33, 32])
    features_of(images, alone, cache=tmp_path / "kept")
    assert alone.seen == 0


def test_what_one_process_cannot_read_stops_both(tmp_path: Path) -> None:
    first, second = together(tmp_path / "kept", tmp_path, "torn")
    assert first["error"] == "RunError: another process could not make its features; it says why."
    assert second["error"] == "DataError: picture 24 is gone"
