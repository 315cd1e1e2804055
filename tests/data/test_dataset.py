from __future__ import annotations

import json

import numpy as np
import pytest

from carrara.data.dataset import Dataset, Split, fingerprint
from carrara.errors import DataError


def split(n: int, seed: int = 0, captions: tuple[str, ...] | None = None) -> Split:
    rng = np.random.default_rng(seed)
    media = rng.integers(0, 256, (n, 3, 4, 5), dtype=np.uint8)
    return Split(media, np.arange(n, dtype=np.int64) % 2, captions)


def dataset(train: Split, heldout: Split, classes: tuple[str, ...] = ("a", "b")) -> Dataset:
    return Dataset("toy", classes, train, heldout, fingerprint({}, classes, train, heldout), "CC0", "here")


def test_summary_is_json_and_its_counts_add_up() -> None:
    one = dataset(split(7), split(3))
    summary = json.loads(json.dumps(one.summary()))
    assert summary["counts"] == {"train": 7, "heldout": 3}
    assert summary["shape"] == [3, 4, 5] == list(one.shape)
    assert summary["classes"] == {"a": {"train": 4, "heldout": 2}, "b": {"train": 3, "heldout": 1}}
    assert summary["fingerprint"] == one.fingerprint


def test_a_dataset_without_classes_summarises() -> None:
    plain = Split(split(3).media, np.zeros(3, np.int64))
    assert dataset(plain, plain, classes=()).summary()["classes"] == {}


def test_fingerprint_changes_with_every_part() -> None:
    train, heldout = split(5), split(3, seed=1)
    pixel = train.media.copy()
    pixel[4, 2, 3, 4] ^= 1
    relabelled = Split(train.media, train.labels[::-1] * 0)
    marks = {
        fingerprint({}, ("a", "b"), train, heldout),
        fingerprint({"flip": True}, ("a", "b"), train, heldout),
        fingerprint({}, ("a", "c"), train, heldout),
        fingerprint({}, ("a", "b"), Split(pixel, train.labels), heldout),
        fingerprint({}, ("a", "b"), relabelled, heldout),
        fingerprint({}, ("a", "b"), Split(train.media, train.labels, ("",) * 5), heldout),
        fingerprint({}, ("a", "b"), heldout, train),
    }
    assert len(marks) == 7


def test_fingerprint_does_not_depend_on_memory_layout() -> None:
    train = split(5)
    turned = Split(np.asfortranarray(train.media), train.labels.astype(">i8").astype(np.int64))
    assert fingerprint({}, (), train, train) == fingerprint({}, (), turned, turned)


@pytest.mark.parametrize(
    ("media", "labels", "captions", "words"),
    [
        (np.zeros((2, 3, 4, 4), np.float32), np.zeros(2, np.int64), None, "float32"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), None, "(N, C, H, W)"),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(3, np.int64), None, "(2,)"),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int32), None, "int32"),
        (np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int64), ("one",), "1 captions for 2"),
    ],
)
def test_a_split_whose_parts_do_not_fit_is_refused(
    media: np.ndarray, labels: np.ndarray, captions: tuple[str, ...] | None, words: str
) -> None:
    with pytest.raises(DataError) as refusal:
        Split(media, labels, captions)
    assert words in str(refusal.value)


def test_labels_beyond_the_classes_and_empty_or_unequal_splits_are_refused() -> None:
    with pytest.raises(DataError, match="labels from 0 to 1; its 1 classes allow 0 to 0"):
        dataset(split(4), split(4), classes=("only",))
    with pytest.raises(DataError, match="no heldout picture"):
        dataset(split(4), split(0))
    wide = Split(np.zeros((2, 3, 4, 6), np.uint8), np.zeros(2, np.int64))
    with pytest.raises(DataError, match="one shape"):
        dataset(split(4), wide)
