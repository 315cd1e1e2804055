"""Texts as one run of bytes, and the splits and datasets made of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrara.data import Dataset, Documents, Split, load
from carrara.data.batches import batch
from carrara.data.dataset import fingerprint
from carrara.errors import DataError, InputError

WORDS = ["", "one", "zwölf", "三", "🎶 ok", ""]


def split(texts: list[str], sources: list[str] | None = None) -> Split:
    zeros = np.zeros(len(texts), np.int64)
    return Split(Documents.of(texts), zeros, None, None if sources is None else Documents.of(sources))


def dataset(train: Split, heldout: Split, flip: bool = False) -> Dataset:
    return Dataset("toy", (), train, heldout, fingerprint({}, (), train, heldout), "CC0", "here", flip)


@given(st.lists(st.text()))
def test_texts_come_back(texts: list[str]) -> None:
    found = Documents.of(texts)
    assert list(found) == texts == [found[row] for row in range(len(found))] == found[:]
    assert found.characters() == sum(map(len, texts))
    assert found.lengths().tolist() == [len(text.encode()) for text in texts]


def test_rows_are_counted_from_either_end() -> None:
    found = Documents.of(WORDS)
    assert found[-2] == "🎶 ok" and found[1:4:2] == ["one", "三"] and found.raw(3) == "三".encode()
    assert found.chosen(np.array([3, 1, 3])) == ["三", "one", "三"]
    for row in (6, -7):
        with pytest.raises(IndexError):
            found[row]


@pytest.mark.parametrize("ends", [[3], [3, 2, 4], [4, 5]])
def test_ends_that_do_not_divide_the_bytes_are_refused(ends: list[int]) -> None:
    with pytest.raises(DataError, match="do not divide 4 bytes"):
        Documents(np.zeros(4, np.uint8), np.array(ends))


def test_bytes_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"float32 \(4,\)"):
        Documents(np.zeros(4, np.float32), np.array([4]))  # type: ignore[arg-type]


def test_pictures_are_refused_where_texts_are_needed_and_the_reverse() -> None:
    with pytest.raises(InputError, match="the data holds 6 texts, and pictures are needed here; choose a dataset"):
        _ = split(WORDS).pictures
    with pytest.raises(
        InputError, match="the data holds 1,437 pictures, and texts are needed here; choose a dataset"
    ):
        _ = load("digits").train.texts


def test_labels_and_sources_are_one_a_text() -> None:
    with pytest.raises(DataError, match="one a text"):
        Split(Documents.of(WORDS), np.zeros(2, np.int64))
    with pytest.raises(DataError, match="1 sources for 6 texts"):
        split(WORDS, ["one"])


def test_a_dataset_of_two_kinds_is_refused() -> None:
    pictures = Split(np.zeros((2, 1, 3, 3), np.uint8), np.zeros(2, np.int64))
    for train, heldout in ((split(WORDS), pictures), (split(WORDS), split(WORDS, WORDS))):
        with pytest.raises(DataError, match="train texts and heldout"):
            dataset(train, heldout)
    with pytest.raises(DataError, match="cannot be mirrored"):
        dataset(split(WORDS), split(WORDS), flip=True)
    with pytest.raises(DataError, match="no heldout text"):
        dataset(split(WORDS), split([]))


def test_the_summary_is_json_and_its_counts_add_up() -> None:
    one = dataset(split(WORDS, WORDS), split(["三"], ["1"]))
    found = json.loads(json.dumps(one.summary()))
    assert found["counts"] == {"train": 6, "heldout": 1} and found["paired"] is True
    assert found["characters"] == {"train": 13, "heldout": 1} and found["bytes"] == {"train": 19, "heldout": 3}
    assert found["longest_bytes"] == 7 and "shape" not in found and one.shape == ()


def test_the_fingerprint_changes_with_every_part() -> None:
    marks: set[str] = set()
    changes: list[Callable[[], Split]] = [
        lambda: split(["ab", "c"]),
        lambda: split(["a", "bc"]),
        lambda: split(["ab", "d"]),
        lambda: split(["ab", "c"], ["", "x"]),
        lambda: split(["ab", "c"], ["x", ""]),
        lambda: Split(Documents.of(["ab", "c"]), np.array([0, 1])),
    ]
    marks = {fingerprint({}, (), change(), split(WORDS)) for change in changes}
    assert len(marks) == len(changes)


def test_the_fingerprint_of_pictures_is_what_it_always_was() -> None:
    assert load("digits").fingerprint == "e3738799c1cf3be9c8533dcb2d40eff838943f5513a2bbe31f71e5220397b5d0"


def test_a_batch_of_texts() -> None:
    found = batch(split(WORDS, WORDS[::-1]), np.array([2, 0]))
    assert found["media"] == ["zwölf", ""] and found["source"] == ["三", ""] and found["label"].tolist() == [0, 0]
    with pytest.raises(InputError, match="pictures are needed"):
        batch(split(WORDS), np.array([0]), np.array([True]))
