"""What is taken off for hubs is the formula, written as a product of unit vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.clip.hubs import EXTRA, SQUARE, Hubs, usual
from carrara.clip.retrieval import recalls, true_above_others
from carrara.errors import InputError
from carrara.rng import Streams

DIM = 8


def unit(seed: int, count: int) -> Tensor:
    return F.normalize(Streams([seed]).normal((count, DIM), torch.float64)[0], dim=1)


def test_the_product_of_what_is_given_is_the_formula() -> None:
    pictures, texts, bank, said = unit(1, 6), unit(2, 7), unit(3, 30), unit(4, 30)
    hubs = Hubs(bank, said, 4)
    found_pictures, found_texts = hubs.of_pictures(pictures), hubs.of_texts(texts)
    assert found_pictures.shape == (6, DIM + EXTRA) and found_texts.shape == (7, DIM + EXTRA)
    for found in (found_pictures, found_texts):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found), dtype=torch.float64))
    for i, picture in enumerate(pictures):
        for j, text in enumerate(texts):
            of_picture = sorted((float(picture @ other) for other in said), reverse=True)[:4]
            of_text = sorted((float(text @ other) for other in bank), reverse=True)[:4]
            fit = float(picture @ text) - sum(of_picture) / 8 - sum(of_text) / 8
            assert float(found_pictures[i] @ found_texts[j]) == pytest.approx((1 + fit) / SQUARE)


@pytest.mark.parametrize("near", [1.0, -1.0])
def test_the_farthest_and_the_nearest_have_length_one_too(near: float) -> None:
    """Where a half of what is usual is ½, nothing is left to fill up."""
    one = unit(1, 1)
    hubs = Hubs(near * one.expand(5, -1), near * one.expand(5, -1), 5)
    for found in (hubs.of_pictures(one), hubs.of_texts(one)):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(1, dtype=torch.float64))


def test_less_is_found_that_is_a_hub_and_more_that_is_meant() -> None:
    """Pictures that all lean one way, and texts that lean so more and less: the more, the nearer they are to all pictures."""
    count, middle = 120, unit(9, 1)
    meant, lean = unit(5, count), 1.2 * Streams([8]).uniform((count, 1))[0]
    pictures, texts = (
        F.normalize(meant + middle, dim=1),
        F.normalize(meant + 0.4 * unit(7, count) + lean * middle, dim=1),
    )
    hubs = Hubs(F.normalize(unit(6, 200) + middle, dim=1), texts, 10)
    plain, cured = pictures @ texts.T, hubs.of_pictures(pictures) @ hubs.of_texts(texts).T
    assert true_above_others(cured) > true_above_others(plain) + 0.01
    assert recalls(cured)["image_to_text_at_5"] > recalls(plain)["image_to_text_at_5"] + 0.05
    found = [int((ranks <= 5).sum(0).max()) for ranks in (places(plain), places(cured))]
    assert found[1] < 0.8 * found[0], "the text that is found most often"


def places(similarity: Tensor) -> Tensor:
    """At which place each text is for each picture, 1 for the nearest."""
    return similarity.argsort(dim=1, descending=True).argsort(dim=1) + 1


def test_a_row_is_its_own_and_too_few_are_refused() -> None:
    bank = unit(3, 30)
    torch.testing.assert_close(usual(unit(1, 6), bank, 3)[2:3], usual(unit(1, 6)[2:3], bank, 3))
    for neighbours in (0, 31):
        with pytest.raises(InputError, match=f"{neighbours} neighbours cannot be found among 30 training pairs"):
            usual(unit(1, 2), bank, neighbours)
