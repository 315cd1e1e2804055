from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrara.data.batches import batch, order
from carrara.data.dataset import Split
from carrara.errors import InputError

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**70)
counts = st.integers(0, 120)


@given(sizes, seeds, st.integers(0, 10**9))
def test_every_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert sorted(order(n, seed, epoch * n, n).tolist()) == list(range(n))


@given(sizes, seeds, counts, counts, counts)
def test_a_split_order_is_the_whole_order(n: int, seed: int, start: int, first: int, second: int) -> None:
    whole = order(n, seed, start, first + second)
    parts = [order(n, seed, start, first), order(n, seed, start + first, second)]
    assert whole.dtype == np.int64
    assert whole.tolist() == np.concatenate(parts).tolist()


def test_epochs_and_seeds_differ() -> None:
    drawn = {tuple(order(100, seed, epoch * 100, 100)) for seed in range(3) for epoch in range(3)}
    assert len(drawn) == 9


def test_each_place_sees_each_picture_equally_often() -> None:
    n, epochs = 5, 4000
    epochwise = order(n, 7, 0, n * epochs).reshape(epochs, n)
    counts = np.array([np.bincount(place, minlength=n) for place in epochwise.T])
    # Chi-square of 25 cells with 16 degrees of freedom: its 99.99 % quantile is 44.6.
    assert ((counts - epochs / n) ** 2 / (epochs / n)).sum() < 44.6


def test_what_order_returns_may_be_written_to_without_changing_the_next() -> None:
    first = order(10, 0, 0, 10)
    kept = first.copy()
    first[:] = 0
    assert order(10, 0, 0, 10).tolist() == kept.tolist()


@pytest.mark.parametrize("bad", [(0, 0, 0, 1), (3, -1, 0, 1), (3, 0, -1, 1), (3, 0, 0, -1)])
def test_an_impossible_order_is_refused(bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="n must be at least 1, the others at least 0"):
        order(*bad)


def _split(captions: tuple[str, ...] | None = None) -> Split:
    media = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
    media.flags.writeable = False
    return Split(media, np.arange(6, dtype=np.int64), captions)


def test_a_batch_is_the_pictures_asked_for() -> None:
    split = _split()
    found = batch(split, np.array([4, 1, 4]))
    assert found.keys() == {"media", "label"}
    assert found["media"].dtype == torch.uint8
    assert torch.equal(found["media"], torch.tensor(split.media[[4, 1, 4]]))
    assert (found["label"].dtype, found["label"].tolist()) == (torch.int64, [4, 1, 4])


def test_captions_follow_their_pictures() -> None:
    found = batch(_split(tuple("abcdef")), np.array([5, 0]))
    assert found["caption"] == ["f", "a"]


def test_flips_mirror_left_and_right_and_leave_the_split_alone() -> None:
    split = _split()
    before = split.media.copy()
    found = batch(split, np.array([2, 3]), np.array([True, False]))["media"].numpy()
    assert np.array_equal(found[0], split.media[2][:, :, ::-1])
    assert np.array_equal(found[1], split.media[3])
    found[:] = 0
    assert np.array_equal(split.media, before)


def test_flips_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"flips must be bool of shape \(2,\)"):
        batch(_split(), np.array([2, 3]), np.array([True]))
