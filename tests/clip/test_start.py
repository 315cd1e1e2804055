"""Heads begin where pictures and texts agree most: as the formula says, and also where features are more than pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.clip.retrieval import true_above_others
from carrara.clip.start import starts
from carrara.rng import Streams

PAIRS, SHARED = 300, 6


def normal(seed: int, *shape: int) -> Tensor:
    return Streams([seed]).normal(shape, torch.float64)[0]


def standard(features: Tensor) -> Tensor:
    return (features - features.mean(0)) / features.std(0, correction=0)


def sides(own: float = 1.0, wide: int = 20) -> tuple[Tensor, Tensor]:
    """Pictures (N, wide) and texts (N, 12) with six things in common, and each with much of its own."""
    common = normal(1, PAIRS, SHARED)
    pictures = common @ normal(2, SHARED, wide) + own * normal(3, PAIRS, wide)
    return standard(pictures), standard(common @ normal(4, SHARED, 12) + own * normal(5, PAIRS, 12))


def test_with_hardly_a_ridge_they_are_the_canonical_correlations() -> None:
    """Coordinates of the pictures are uncorrelated among themselves and correlate with their texts' alone."""
    pictures, texts = sides()
    one, other = starts(pictures, texts, SHARED, 1e-9)
    a, b = pictures @ one.T.double(), texts @ other.T.double()
    found = torch.corrcoef(torch.cat([a, b], 1).T)
    within, across = found[:SHARED, :SHARED], found[:SHARED, SHARED:]
    torch.testing.assert_close(within, torch.eye(SHARED, dtype=torch.float64), rtol=0, atol=1e-3)
    expected = canonical(pictures, texts)[:SHARED]
    torch.testing.assert_close(across, torch.diag(expected), rtol=0, atol=1e-3)
    size = a.square().mean(0).sqrt()
    torch.testing.assert_close(size / size[0], expected / expected[0], rtol=1e-3, atol=0)


def canonical(pictures: Tensor, texts: Tensor) -> Tensor:
    """The correlations, by another way: the cosines between the spaces that the two sides span."""
    return torch.linalg.svdvals(torch.linalg.qr(pictures)[0].T @ torch.linalg.qr(texts)[0])


def test_the_ridge_is_the_formula_and_not_only_for_the_largest() -> None:
    pictures, texts = sides()
    ridge, (one, other) = 0.03, starts(*sides(), 12, 0.03)
    roots = []
    for side in (pictures, texts):
        damped = side.T @ side / PAIRS + ridge * side.square().sum() / PAIRS * torch.eye(side.shape[1])
        values, basis = torch.linalg.eigh(damped)
        roots.append(basis @ torch.diag(values.rsqrt()) @ basis.T)
    mine, agreement, theirs = torch.linalg.svd(
        roots[0] @ (pictures.T @ texts / PAIRS) @ roots[1], full_matrices=False
    )
    expected = roots[0] @ (mine * agreement.square()) @ theirs @ roots[1]
    product = one.T.double() @ other.double()
    torch.testing.assert_close(product / product.norm(), expected / expected.norm(), rtol=1e-4, atol=1e-7)


def test_unseen_pairs_are_found_where_features_are_more_than_pairs() -> None:
    """For which the ridge is needed: without it all that was seen agrees perfectly, by chance."""
    pictures, texts = sides(own=3.0, wide=900)
    seen, unseen = slice(0, 200), slice(200, PAIRS)
    found = []
    for ridge in (1e-9, 0.01):
        one, other = (weight.double() for weight in starts(pictures[seen], texts[seen], SHARED, ridge))
        similarity = F.normalize(pictures[unseen] @ one.T, dim=1) @ F.normalize(texts[unseen] @ other.T, dim=1).T
        found.append(true_above_others(similarity))
    assert found[1] > found[0] + 0.05 and found[1] > 0.85


def test_rows_are_as_long_as_those_that_are_drawn_and_none_where_nothing_is() -> None:
    one, other = starts(*sides(), 16, 0.01)
    assert one.shape == (16, 20) and other.shape == (16, 12) and one.dtype == other.dtype == torch.float32
    for weight in (one, other):
        assert float(weight[:12].square().sum(1).mean()) == pytest.approx(1 / 3, rel=1e-4)
        assert not bool(weight[12:].any()) and bool(torch.isfinite(weight).all())
