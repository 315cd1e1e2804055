"""Retrieval is what counting by hand gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from carrara.clip.retrieval import (
    HELDOUT_PAIRS,
    figures,
    picked,
    ranks,
    recalls,
    true_above_others,
    true_above_shuffled,
)
from carrara.clip.sheets import found_pictures, nearest
from carrara.errors import InputError
from carrara.rng import Streams

COUNT = 23


def similarity() -> Tensor:
    drawn = Streams([2]).normal((COUNT, COUNT))[0]
    return drawn + torch.eye(COUNT) * 1.5


def test_recalls_are_a_brute_force_count() -> None:
    values, found = similarity().tolist(), recalls(similarity())
    for k in (1, 5, 10):
        of_texts = [sorted((row[j] for row in values), reverse=True).index(values[j][j]) < k for j in range(COUNT)]
        of_pictures = [sorted(row, reverse=True).index(row[i]) < k for i, row in enumerate(values)]
        assert found[f"text_to_image_at_{k}"] == pytest.approx(np.mean(of_texts))
        assert found[f"image_to_text_at_{k}"] == pytest.approx(np.mean(of_pictures))
    assert found["text_to_image_at_1"] != found["image_to_text_at_1"], "the two directions are two questions"


def test_above_shuffled_is_a_brute_force_count_over_a_derangement() -> None:
    values = similarity()
    others = [(i + COUNT // 2) % COUNT for i in range(COUNT)]
    assert sorted(others) == list(range(COUNT)) and all(i != j for i, j in enumerate(others))
    counted = np.mean([float(values[i, i]) > float(values[i, j]) for i, j in enumerate(others)])
    assert true_above_shuffled(values) == pytest.approx(counted)
    every = [float(values[i, i]) > float(values[i, j]) for i in range(COUNT) for j in range(COUNT) if i != j]
    assert true_above_others(values) == pytest.approx(np.mean(every))


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 1.0), (0.0, 0.0), (-1.0, 0.0)])
def test_the_perfect_finds_all_and_the_constant_nothing(scale: float, expected: float) -> None:
    found = figures(scale * torch.eye(COUNT))
    assert len(found) == 8 and set(found.values()) == {expected}


def test_a_rank_counts_what_is_equal_against_it() -> None:
    assert ranks(torch.tensor([[1.0, 1.0, 0.0], [0.0, 5.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [2, 1, 3]


def test_two_pairs_are_enough_and_one_is_not() -> None:
    assert true_above_shuffled(torch.eye(2)) == 1
    for wrong in (torch.eye(1), torch.zeros(2, 3), torch.zeros(4)):
        with pytest.raises(InputError, match="among 2 pairs or more"):
            recalls(wrong)
    with pytest.raises(InputError, match="NaN or infinite"):
        true_above_shuffled(torch.eye(3) * torch.nan)


def test_the_same_pairs_are_picked_always() -> None:
    assert sorted(picked(40)) == list(range(40)) and picked(40).tolist() == picked(40).tolist()
    assert len(set(picked(5000))) == HELDOUT_PAIRS and picked(40).tolist() != list(range(40))


def test_the_nearest_come_first() -> None:
    values = similarity()
    best = nearest(values, 4)
    for row, found in zip(values.tolist(), best.tolist(), strict=True):
        assert [row[j] for j in found] == sorted(row, reverse=True)[:4]
    assert nearest(torch.zeros(2, 5), 3).tolist() == [[0, 1, 2]] * 2


def test_a_sheet_has_each_caption_s_own_picture_and_those_nearest_to_it() -> None:
    """Each picture of one colour, 64 pixels wide: read off the sheet where they stand."""
    media = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 64, 64), np.uint8)
    sheet = np.asarray(found_pictures(media, [f"number {i}" for i in range(COUNT)], similarity(), [3, 11]))
    best = nearest(similarity().T, 5)
    for place, row in enumerate((3, 11)):
        line = sheet[-(2 - place) * 66 + 34, -7 * 66 + 34 :: 66, 0]
        assert line.tolist() == [row, 255, *best[row]]
