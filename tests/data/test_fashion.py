from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from carrara import data
from carrara.data import fashion
from carrara.errors import DataError

# Before any test has moved the cache away.
REAL = fashion.installed()

FILES = [name for pair in fashion._FILES for name in pair]


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Fashion-MNIST's four files with 30 and 10 pictures, one of them not gzipped."""
    folder = tmp_path / "idx"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for (pictures, labels), n in zip(fashion._FILES, (30, 10), strict=True):
        (folder / f"{pictures}.gz").write_bytes(gzip.compress(idx(rng.integers(0, 256, (n, 28, 28)))))
        (folder / f"{labels}.gz").write_bytes(gzip.compress(idx(np.arange(n) % 10)))
    name = FILES[-1]
    (folder / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    (folder / f"{name}.gz").unlink()
    return folder


@pytest.mark.fashion
@pytest.mark.skipif(REAL is None, reason="Fashion-MNIST is not here: run `make data`")
def test_the_real_files_are_whole() -> None:
    found = data.load("fashion", path=REAL)
    assert (len(found.train), len(found.heldout), found.shape) == (60000, 10000, (1, 28, 28))
    assert np.bincount(found.train.labels).tolist() == [6000] * 10
    # Trousers are two narrow legs: dark margins left and right.
    trousers = found.heldout.media[found.heldout.labels == found.classes.index("trouser")]
    assert trousers[..., :4].mean() < 5 < 100 < trousers[..., 10:18].mean()


def test_gzipped_and_plain_files_are_read(small: Path) -> None:
    found = data.load("fashion", path=small)
    assert (len(found.train), len(found.heldout)) == (30, 10)
    assert found.train.labels.tolist() == [number % 10 for number in range(30)]
    want = np.random.default_rng(0).integers(0, 256, (30, 28, 28))
    assert np.array_equal(found.train.media[:, 0], want)
    assert data.load("fashion", path=small, flip=True).flip


def test_without_the_data_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path / "usr")
    with pytest.raises(DataError) as refusal:
        data.load("fashion")
    for words in ("make data", "apt-get install dataset-fashion-mnist", "path:", str(tmp_path / "usr")):
        assert words in str(refusal.value)


def test_the_system_s_files_come_first_then_the_cache_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path
) -> None:
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path / "usr")
    fashion.fetched().parent.mkdir(parents=True)
    small.rename(fashion.fetched())
    assert fashion.installed() == fashion.fetched()
    assert len(data.load("fashion").heldout) == 10
    fashion.fetched().rename(tmp_path / "usr")
    assert fashion.installed() == tmp_path / "usr"


def test_a_missing_file_is_named(small: Path) -> None:
    (small / f"{FILES[1]}.gz").unlink()
    with pytest.raises(DataError, match=r"has neither train-labels-idx1-ubyte\.gz nor train-labels-idx1-ubyte\."):
        data.load("fashion", path=small)


def damage(raw: bytes, how: str) -> bytes:
    plain = gzip.decompress(raw)
    return {
        "gzip truncated": raw[:-20],
        "not gzip": b"<html>not found</html>",
        "checksum": raw[:-8] + bytes(4) + raw[-4:],
        "magic": gzip.compress(b"\0\0\x0d\x03" + plain[4:]),
        "short": gzip.compress(plain[:-1]),
        "long": gzip.compress(plain + b"\0"),
        "empty": gzip.compress(b""),
        "labels": gzip.compress(idx(np.zeros(30))),
        "huge": gzip.compress(plain[:4] + b"\xff" * 12 + plain[16:]),
        "other size": gzip.compress(idx(np.zeros((30, 32, 32)))),
        "fewer": gzip.compress(idx(np.zeros((29, 28, 28)))),
    }[how]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gzip truncated", "cannot be read"),
        ("not gzip", "cannot be read"),
        ("checksum", "cannot be read"),
        ("magic", "begins with 00000d03, not with 00000803"),
        ("short", "is truncated: 23535 bytes where its header says 23536"),
        ("long", "is too long: 23537 bytes where its header says 23536"),
        ("empty", "begins with nothing"),
        ("labels", "begins with 00000801, not with 00000803"),
        ("huge", "is truncated"),
        ("other size", "Fashion-MNIST has 28 x 28"),
        ("fewer", "holds 29 pictures and"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(small: Path, how: str, words: str) -> None:
    file = small / f"{FILES[0]}.gz"
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(DataError) as refusal:
        data.load("fashion", path=small)
    assert str(file) in str(refusal.value)
    assert words in str(refusal.value)
    assert "Fetch the four files again." in str(refusal.value)


def test_a_label_beyond_the_classes_is_refused(small: Path) -> None:
    (small / FILES[3]).write_bytes(idx(np.full(10, 10)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte holds the label 10; allowed are 0 to 9"):
        data.load("fashion", path=small)
