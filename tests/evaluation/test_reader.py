"""The reader reads real pictures rightly, the same way each time, and rates what it is shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from carrara.data import Dataset, Split, load
from carrara.errors import InputError
from carrara.evaluation.reader import Reader


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def reader(digits: Dataset) -> Reader:
    return Reader.fit(digits)


def tinted(n: int, size: int, classes: int = 2) -> Split:
    """Noisy colour pictures whose class is their brightest channel."""
    rng = np.random.default_rng(n)
    labels = np.arange(n, dtype=np.int64) % classes
    media = rng.integers(0, 128, (n, 3, size, size), dtype=np.uint8)
    media[np.arange(n), labels] += 60
    return Split(media, labels)


def tinted_dataset(size: int = 64, classes: int = 2) -> Dataset:
    names = ("red", "green")[:classes]
    return Dataset("tints", names, tinted(40, size, classes), tinted(20, size, classes), "f", "CC0", "random numbers")


def test_it_reads_the_heldout_digits(reader: Reader) -> None:
    assert reader.accuracy >= 0.97
    assert reader.accuracy_n == 360 and reader.train_n == 1437


def test_its_accuracy_is_the_read_rate_of_the_heldout_pictures(reader: Reader, digits: Dataset) -> None:
    heldout = torch.from_numpy(digits.heldout.media)
    assert reader.read_rate(heldout, digits.heldout.labels.tolist()) == reader.accuracy
    assert reader.read_rate(heldout, torch.from_numpy((digits.heldout.labels + 1) % 10)) < 0.02


def test_it_reads_single_pictures_as_it_reads_many(reader: Reader, digits: Dataset) -> None:
    some = torch.from_numpy(digits.heldout.media[:20])
    read = reader.read(some)
    assert read.dtype == torch.int64 and read.shape == (20,)
    assert read.tolist() == [reader.read(one[None]).item() for one in some]


def test_fitting_again_gives_the_same_reader(reader: Reader, digits: Dataset) -> None:
    noise = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    again = Reader.fit(digits)
    assert torch.equal(again.read(noise), reader.read(noise)) and again.accuracy == reader.accuracy


def test_a_limit_is_kept_and_learning_from_less_is_learning_less(reader: Reader, digits: Dataset) -> None:
    small = Reader.fit(digits, limit=60)
    assert small.train_n == 60 and small.accuracy_n == 60
    heldout, labels = torch.from_numpy(digits.heldout.media), digits.heldout.labels.tolist()
    assert 0.5 < small.read_rate(heldout, labels) < reader.accuracy


def test_large_colour_pictures_are_read_too() -> None:
    reader = Reader.fit(tinted_dataset())
    assert reader.accuracy == 1
    fresh = tinted(10, 64)
    assert reader.read_rate(torch.from_numpy(fresh.media), fresh.labels.tolist()) == 1


def test_progress_ends_at_its_total(digits: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    Reader.fit(digits, limit=100, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_what_it_cannot_use_is_refused(reader: Reader) -> None:
    with pytest.raises(InputError, match="at least two classes; tints"):
        Reader.fit(tinted_dataset(classes=1))
    with pytest.raises(InputError, match=r"\(1, 9, 8\) cannot be compared"):
        reader.read(torch.zeros(1, 1, 9, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="uint8"):
        reader.read(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"2 images need as many classes; got the shape \(3,\)"):
        reader.read_rate(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [1, 2, 3])
