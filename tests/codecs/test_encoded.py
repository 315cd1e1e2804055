"""A dataset that is encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from carrara.codecs.bpe import Bpe
from carrara.codecs.bytes import Bytes
from carrara.codecs.characters import Characters
from carrara.codecs.encoded import encoded, fitted
from carrara.codecs.layouts import Ids
from carrara.codecs.pixels import Pixels
from carrara.data import Dataset, Documents, Split, load
from carrara.data.dataset import fingerprint
from carrara.errors import DataError, InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def split(words: Iterable[str]) -> Split:
    texts = list(words)
    return Split(
        Documents.of(texts), np.zeros(len(texts), np.int64), None, Documents.of(t[::-1] + "!" for t in texts)
    )


def dataset(train: int = 50, heldout: int = 20) -> Dataset:
    sides = [split(f"{side} word {k}" for k in range(n)) for side, n in (("train", train), ("held", heldout))]
    return Dataset("toy", (), *sides, fingerprint({}, (), *sides), "CC0", "here")


class Never(Bytes):
    def windows(self, texts: Iterable[str]) -> Iterator[Ids]:
        raise AssertionError("encoded again")


def test_windows_of_both_splits_memory_mapped_in_few_bytes() -> None:
    train, heldout = encoded(dataset(), Bytes(8))
    assert isinstance(train, np.memmap) and not train.flags.writeable and train.dtype == np.uint16
    codec = Bytes(8)
    assert np.array_equal(train, np.concatenate(list(codec.windows(dataset().train.texts))))
    assert np.array_equal(heldout, np.concatenate(list(codec.windows(dataset().heldout.texts))))


def test_the_second_time_nothing_is_encoded(cache: Path) -> None:
    first = encoded(dataset(), Bytes(8))
    again = encoded(dataset(), Never(8))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    for other, codec in ((dataset(train=51), Never(8)), (dataset(), Never(9)), (dataset(), Never(8, "rows"))):
        with pytest.raises(AssertionError, match="encoded again"):
            encoded(other, codec)
    assert len(list((cache / "encoded").iterdir())) == 1


def test_rows_and_sources_are_in_the_texts_order() -> None:
    data, codec = dataset(), Bytes(20, "rows")
    for windows, sources, side in zip(
        encoded(data, codec), encoded(data, codec, "sources"), (data.train, data.heldout), strict=True
    ):
        texts = codec.decode(torch.from_numpy(windows.astype(np.int64)))
        assert texts == list(side.texts)
        assert codec.decode(torch.from_numpy(sources.astype(np.int64))) == [text[::-1] + "!" for text in texts]


@pytest.mark.parametrize("name", ["train.npy", "heldout.npy", "meta.json"])
def test_a_damaged_file_is_made_again(cache: Path, name: str) -> None:
    before = [np.array(part) for part in encoded(dataset(), Bytes(8))]
    (file,) = (cache / "encoded").glob(f"*/{name}")
    raw = bytearray(file.read_bytes())
    raw[-10] ^= 1
    file.write_bytes(raw)
    after = encoded(dataset(), Bytes(8))
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    encoded(dataset(), Never(8))


def test_an_encoding_that_is_stopped_leaves_nothing(cache: Path) -> None:
    class Stopped(Bytes):
        def windows(self, texts: Iterable[str]) -> Iterator[Ids]:
            yield next(super().windows(texts))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoded(dataset(), Stopped(8))
    assert list((cache / "encoded").iterdir()) == []


def test_texts_shorter_than_a_window_are_refused() -> None:
    with pytest.raises(
        DataError, match="toy's heldout texts are shorter than one window of 400 tokens: give more text"
    ):
        encoded(dataset(), Bytes(400))


def test_a_codec_is_made_from_training_texts_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fitted(Characters(8), dataset())
    assert made.known == " 0123456789adinortw"
    monkeypatch.setattr(Characters, "fit", lambda *_: pytest.fail("made again"))
    # Another length or layout asks for the same characters.
    assert fitted(Characters(9, "rows"), dataset()).known == made.known
    (state,) = (cache / "codecs").glob("*/characters.json")
    state.write_text('{"characters": "x"}')
    with pytest.raises(pytest.fail.Exception, match="made again"):
        fitted(Characters(8), dataset())


def test_a_codec_of_the_sources_is_another() -> None:
    assert "!" in fitted(Characters(8), dataset(), "sources").known
    assert fitted(Bpe(8, vocab=260), dataset(), "sources").vocab == 260


def test_codecs_that_need_no_texts_are_as_they_were() -> None:
    codec = Bytes()
    assert fitted(codec, dataset()) is codec and isinstance(fitted(Pixels(), load("digits")), Pixels)


def test_pictures_through_a_codec_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load("digits")
    train, heldout = encoded(digits, Pixels())
    assert train.dtype == np.float32 and heldout.shape == (360, 1, 8, 8)
    assert torch.equal(torch.from_numpy(np.array(train)), Pixels().encode(torch.from_numpy(digits.train.pictures)))


def test_what_does_not_fit_together_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="pictures, and texts are needed here"):
        encoded(load("digits"), Bytes())
    with pytest.raises(InputError, match="pictures, and texts are needed here"):
        fitted(Characters(), load("digits"))
    with pytest.raises(InputError, match="texts, and pictures are needed here"):
        encoded(dataset(), Pixels())
    with pytest.raises(InputError, match="the dataset digits has no sources, which pairs have"):
        encoded(load("digits"), Bytes(), "sources")
