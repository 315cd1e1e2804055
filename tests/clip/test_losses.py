"""The losses are what their papers say, and know neither the batch's order nor which side is called the picture's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.clip.losses import contrastive, sigmoid
from carrara.rng import Streams

BATCH = 9
WHOLE = slice(0, BATCH)
NONE = torch.zeros(BATCH, BATCH, dtype=torch.bool)

both = pytest.mark.parametrize("loss", [contrastive, sigmoid])
Loss = Callable[[Tensor, Tensor, slice], Tensor]


def logits() -> Tensor:
    return 3 * Streams([5]).normal((BATCH, BATCH), torch.float64)[0]


def twins() -> Tensor:
    same = NONE.clone()
    same[2, 5] = same[5, 2] = same[0, 8] = same[8, 0] = True
    return same


def test_an_embedding_that_is_perfect_has_no_loss_and_one_that_tells_nothing_apart_has_log_b() -> None:
    perfect = 100 * torch.eye(BATCH)
    assert float(contrastive(perfect, NONE, WHOLE).max()) < 1e-6
    torch.testing.assert_close(contrastive(0 * perfect, NONE, WHOLE), torch.full((BATCH,), math.log(BATCH)))
    assert float(sigmoid(2 * perfect - 100, NONE, WHOLE).max()) < 1e-6


def test_a_loss_of_wrong_pairs_is_large() -> None:
    wrong = 100 * torch.eye(BATCH).roll(1, 0)
    assert float(contrastive(wrong, NONE, WHOLE).min()) > 99


def test_contrastive_is_the_mean_of_two_cross_entropies() -> None:
    drawn, target = logits(), torch.arange(BATCH)
    expected = (F.cross_entropy(drawn, target) + F.cross_entropy(drawn.T, target)) / 2
    torch.testing.assert_close(contrastive(drawn, NONE, WHOLE).mean(), expected)


def test_sigmoid_is_the_paper_s_sum_over_the_batch() -> None:
    drawn = logits()
    total = sum(
        math.log1p(math.exp(-(1 if i == j else -1) * float(drawn[i, j]))) for i in range(BATCH) for j in range(BATCH)
    )
    assert float(sigmoid(drawn, NONE, WHOLE).mean()) == pytest.approx(total / BATCH)


@both
def test_the_order_of_a_batch_is_nothing(loss: Loss) -> None:
    drawn, order = logits(), torch.tensor([4, 0, 8, 2, 7, 1, 3, 6, 5])
    found = loss(drawn[order][:, order], twins()[order][:, order], WHOLE)
    torch.testing.assert_close(found, loss(drawn, twins(), WHOLE)[order])


@both
def test_pictures_and_texts_are_treated_alike(loss: Loss) -> None:
    torch.testing.assert_close(loss(logits().T, twins(), WHOLE), loss(logits(), twins(), WHOLE))


@both
def test_a_part_has_the_losses_that_it_has_in_the_whole(loss: Loss) -> None:
    torch.testing.assert_close(loss(logits(), twins(), slice(3, 7)), loss(logits(), twins(), WHOLE)[3:7])


@both
def test_what_is_no_contrast_counts_for_nothing(loss: Loss) -> None:
    """Whatever stands there: neither the loss nor a gradient knows it."""
    drawn = logits().requires_grad_(True)
    found = loss(drawn, twins(), WHOLE)
    (slope,) = torch.autograd.grad(found.sum(), drawn)
    assert not bool(slope[twins()].any()) and bool(torch.isfinite(slope).all()) and bool((slope[~twins()] != 0).all())
    other = torch.where(twins(), 50.0, drawn.detach())
    torch.testing.assert_close(loss(other, twins(), WHOLE), found.detach())
    assert float(loss(other, NONE, WHOLE).sum()) > float(found.detach().sum()) + 10
