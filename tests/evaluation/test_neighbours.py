"""Nearest training pictures are exact, and a model that copies is told from one that does not."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
import torch

from carrara.data import Dataset, Split, load
from carrara.errors import InputError
from carrara.evaluation import neighbours
from carrara.evaluation.neighbours import memorisation, nearest

Pictures = npt.NDArray[np.uint8]


def pictures(n: int, shape: tuple[int, int, int] = (1, 4, 5), seed: int = 0) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def dataset(train: Pictures, heldout: Pictures, flip: bool = False) -> Dataset:
    sides = [Split(media, np.zeros(len(media), np.int64)) for media in (train, heldout)]
    return Dataset("noise", (), sides[0], sides[1], "f", "CC0", "random numbers", flip)


def brute(queries: Pictures, train: Pictures) -> npt.NDArray[np.float64]:
    difference = queries[:, None].astype(np.float64) - train[None]
    return np.sqrt(np.square(difference).mean((2, 3, 4)))


@pytest.mark.parametrize(("values", "rows"), [(4_000_000, 1024), (60, 3), (1, 1)])
def test_it_is_what_comparing_all_pairs_gives(values: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK_VALUES", values)
    monkeypatch.setattr(neighbours, "QUERIES", rows)
    queries, train = pictures(10), pictures(25, seed=1)
    found = nearest(torch.from_numpy(queries), train)
    every = brute(queries, train)
    np.testing.assert_allclose(found.distance, every.min(1), rtol=1e-14)
    np.testing.assert_array_equal(found.index, every.argmin(1))


def test_only_a_copy_is_at_distance_zero() -> None:
    train = np.full((3, 3, 64, 64), 255, np.uint8)
    train[:, 0, 0, 0] = [253, 254, 255]
    query = train[[1]].copy()
    found = nearest(torch.from_numpy(query), train)
    assert found.distance.item() == 0 and found.index.item() == 1
    alone = nearest(torch.from_numpy(query), train[[2]])
    assert alone.distance.item() == pytest.approx((3 * 64 * 64) ** -0.5, rel=1e-14)


def test_black_and_white_are_as_far_apart_as_can_be() -> None:
    black, white = np.zeros((1, 1, 8, 8), np.uint8), np.full((1, 1, 8, 8), 255, np.uint8)
    assert nearest(torch.from_numpy(black), white).distance.item() == 255


def test_of_equal_pictures_the_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK_VALUES", 40)
    train = np.repeat(pictures(1), 7, axis=0)
    assert nearest(torch.from_numpy(train[:2]), train).index.tolist() == [0, 0]


def test_mirror_images_count_where_training_may_have_mirrored() -> None:
    train = pictures(20)
    mirrored = torch.from_numpy(train[[4, 9]]).flip(-1)
    with_flip, without = nearest(mirrored, train, flip=True), nearest(mirrored, train)
    assert with_flip.distance.tolist() == [0, 0] and with_flip.index.tolist() == [4, 9]
    assert without.distance.min() > 0
    plain = nearest(torch.from_numpy(train[[4, 9]]), train, flip=True)
    assert plain.distance.tolist() == [0, 0]


def test_a_model_that_copies_is_found_out() -> None:
    digits = load("digits")
    found = memorisation(torch.from_numpy(digits.train.media[:50]), digits)
    assert found.copies == found.n == 50 and found.median == 0
    assert found.nearer_share == 1 and found.heldout_copies == 0
    assert found.nearest.index.tolist() == list(range(50))


def test_slightly_changed_copies_are_found_out_too() -> None:
    digits = load("digits")
    changed = torch.from_numpy(digits.train.media[:50]) ^ 3
    found = memorisation(changed, digits)
    assert found.copies == 0 and found.nearer_share == 1
    assert 0 < found.median < found.threshold <= found.heldout_median


def test_pictures_the_model_cannot_have_seen_are_no_nearer_than_usual() -> None:
    digits = load("digits")
    found = memorisation(torch.from_numpy(digits.heldout.media), digits, heldout_n=None)
    assert found.heldout_n == found.n == 360
    assert found.median == pytest.approx(found.heldout_median) and found.minimum == found.heldout_minimum
    assert found.nearer_share <= 0.012
    assert found.nearest.distance.median() > 0


def test_a_mirrored_copy_is_found_in_a_dataset_that_may_be_mirrored() -> None:
    train, heldout = pictures(30), pictures(10, seed=1)
    samples = torch.from_numpy(train[:5]).flip(-1)
    assert memorisation(samples, dataset(train, heldout, flip=True)).copies == 5
    assert memorisation(samples, dataset(train, heldout)).copies == 0


def test_the_result_says_what_it_compared() -> None:
    found = memorisation(
        torch.from_numpy(pictures(8, seed=2)), dataset(pictures(30), pictures(10, seed=1)), heldout_n=6
    )
    assert "n = 8, 6 held-out, 30 training images" in str(found)
    kept = json.loads(json.dumps(found.as_dict()))
    assert kept["heldout_n"] == 6 and kept["median"] == found.median and "nearest" not in kept


@pytest.mark.parametrize("flip", [False, True])
def test_progress_rises_to_its_total(flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK_VALUES", 100)
    calls: list[tuple[int, int]] = []
    given = dataset(pictures(30), pictures(10, seed=1), flip)
    memorisation(torch.from_numpy(pictures(8)), given, progress=lambda done, total: calls.append((done, total)))
    steps = [done for done, _ in calls]
    assert steps == sorted(steps) and len(set(calls)) > 2
    assert {total for _, total in calls} == {steps[-1]}


def test_pictures_of_another_kind_are_refused() -> None:
    given = dataset(pictures(5), pictures(5))
    with pytest.raises(InputError, match=r"\(3, 4, 5\) cannot be compared with pictures of shape \(1, 4, 5\)"):
        memorisation(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), given)
    with pytest.raises(InputError, match="uint8"):
        memorisation(torch.zeros(2, 1, 4, 5), given)
    with pytest.raises(InputError, match="at least 1 samples are needed; got 0"):
        memorisation(torch.zeros(0, 1, 4, 5, dtype=torch.uint8), given)
    with pytest.raises(InputError, match="limit of 0"):
        memorisation(torch.from_numpy(pictures(2)), given, heldout_n=0)
    with pytest.raises(InputError, match="searched"):
        nearest(torch.from_numpy(pictures(2)), pictures(2, (1, 5, 4)))
    with pytest.raises(InputError, match="searched"):
        nearest(torch.from_numpy(pictures(2)), pictures(0))
