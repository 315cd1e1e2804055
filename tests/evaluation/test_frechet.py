"""Moments do not depend on how rows arrive; the Fréchet distance obeys its laws and its known values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation.frechet import Normal, caution, frechet_distance
from carrara.evaluation.statistics import Moments


def rows(n: int, dim: int, seed: int = 0) -> Tensor:
    """Correlated rows (n, dim) around a mean that is not 0."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, dtype=torch.float64, generator=rng)
    offset = torch.randn(dim, dtype=torch.float64, generator=rng)
    return torch.randn(n, dim, dtype=torch.float64, generator=rng) @ mixing + offset


def moments(features: Tensor, *sizes: int) -> Moments:
    found = Moments(features.shape[1])
    for part in torch.split(features, sizes or (len(features),)):
        found.update(part)
    return found


def rotation(dim: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=rng))[0]


def diagonal(mean: list[float], deviations: list[float], turn: Tensor) -> Moments:
    covariance = turn @ torch.tensor(deviations, dtype=torch.float64).square().diag() @ turn.T
    return Moments.of(1000, turn @ torch.tensor(mean, dtype=torch.float64), covariance)


def test_moments_are_the_mean_and_the_unbiased_covariance() -> None:
    features = rows(50, 6)
    found = moments(features)
    assert found.n == 50 and found.dim == 6
    torch.testing.assert_close(found.mean, features.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.cov, features.T.cov(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", [(100,), (1,) * 100, (1, 99), (99, 1), (33, 0, 33, 34), (64, 36)])
def test_how_rows_are_split_into_batches_does_not_matter(sizes: tuple[int, ...]) -> None:
    features = rows(100, 7) + 1e4
    split = moments(features, *sizes)
    torch.testing.assert_close(split.mean, features.mean(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(split.cov, features.T.cov(), rtol=1e-10, atol=1e-10 * float(split.cov.abs().max()))


def test_merging_is_seeing_both() -> None:
    features = rows(80, 5)
    whole, first, empty = moments(features), moments(features[:30]), Moments(5)
    first.merge(moments(features[30:]))
    empty.merge(whole)
    empty.merge(Moments(5))
    for joined in (first, empty):
        assert joined.n == 80
        torch.testing.assert_close(joined.mean, whole.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(joined.cov, whole.cov, rtol=1e-10, atol=1e-12)


def test_float32_rows_far_from_zero_keep_their_spread() -> None:
    features = torch.arange(1000, dtype=torch.float32)[:, None] % 2 + 2.0**23
    assert moments(features, *[10] * 100).cov.item() == pytest.approx(0.25 * 1000 / 999, rel=1e-12)


def test_moments_refuse_what_they_cannot_take() -> None:
    found = Moments(3)
    with pytest.raises(InputError, match=r"\(B, 3\); got \(2, 4\)"):
        found.update(torch.zeros(2, 4))
    with pytest.raises(NonFinite, match="NaN"):
        found.update(torch.tensor([[0.0, float("nan"), 0.0]]))
    with pytest.raises(InputError, match="4-d"):
        found.merge(moments(torch.zeros(2, 4)))
    with pytest.raises(InputError, match="square"):
        Moments.of(2, torch.zeros(3), torch.zeros(3, 2))
    found.update(torch.zeros(1, 3))
    with pytest.raises(InputError, match="at least 2 feature vectors; got 1"):
        frechet_distance(found, found)


@pytest.mark.parametrize("n", [3, 12, 500])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_set_is_at_no_distance_from_itself(n: int, scale: float) -> None:
    features = rows(n, 30) * scale
    extent = float(features.T.cov().trace())
    again = moments(features.flip(0), 1, n - 1)
    assert 0 <= frechet_distance(moments(features), moments(features)) < 1e-8 * extent
    assert 0 <= frechet_distance(moments(features), again) < 1e-8 * extent


@pytest.mark.parametrize(("n", "m"), [(200, 300), (8, 300), (8, 5)])
def test_it_is_symmetric_rotation_invariant_and_grows_with_the_square_of_the_scale(n: int, m: int) -> None:
    a, b, turn = rows(n, 20), rows(m, 20, seed=1), rotation(20)
    distance = frechet_distance(moments(a), moments(b))
    assert distance > 0
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(moments(a @ turn), moments(b @ turn)) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(moments(3 * a), moments(3 * b)) == pytest.approx(9 * distance, rel=1e-9)
    assert frechet_distance(moments(a + 7), moments(b + 7)) == pytest.approx(distance, rel=1e-9)


def test_its_root_obeys_the_triangle_inequality() -> None:
    sides = [moments(rows(40, 10, seed)) for seed in range(6)]
    root = np.array([[frechet_distance(a, b) ** 0.5 for b in sides] for a in sides])
    assert (root[:, :, None] + root[None] >= root[:, None] - 1e-6).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("turned", [False, True])
def test_commuting_covariances_have_a_closed_form(turned: bool, scale: float) -> None:
    turn = scale * (rotation(3) if turned else torch.eye(3, dtype=torch.float64))
    a, b = diagonal([0, 1, 2], [1, 2, 0], turn), diagonal([3, 1, 0], [4, 0, 5], turn)
    expected = (9 + 0 + 4) + (9 + 4 + 25)
    assert frechet_distance(a, b) == pytest.approx(scale**2 * expected, rel=1e-10)


def test_two_lines_are_apart_by_the_angle_between_them() -> None:
    u, v = torch.tensor([3.0, 0.0]).double(), torch.tensor([1.0, 1.0]).double()
    a, b = (Moments.of(10, torch.zeros(2), torch.outer(side, side)) for side in (u, v))
    assert frechet_distance(a, b) == pytest.approx(9 + 2 - 2 * 3, rel=1e-10)


def test_it_agrees_with_the_matrix_square_root_of_the_product() -> None:
    a, b = moments(rows(400, 12)), moments(rows(300, 12, seed=1))
    root = scipy.linalg.sqrtm((a.cov @ b.cov).numpy()).real
    expected = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * np.trace(root)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (60, 80)])
def test_it_is_what_torchmetrics_computes(n: int, m: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid", reason="needs carrara[oracle]")
    a, b = rows(n, 40), rows(m, 40, seed=1)
    theirs = fid._compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(float(theirs), rel=1e-6)
    assert frechet_distance(Normal.of_features(a), Normal.of_features(b)) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("n", [2, 14, 15, 16, 200])
def test_a_normal_of_features_is_that_of_their_moments(n: int) -> None:
    features = rows(n, 15) + 100
    found = Normal.of_features(features.float())
    torch.testing.assert_close(found.mean, features.float().double().mean(0))
    torch.testing.assert_close(found.factor @ found.factor.T, features.float().double().T.cov())
    assert found.factor.shape == (15, min(n, 15))


def test_a_normal_of_features_needs_two_finite_rows() -> None:
    with pytest.raises(InputError, match=r"at least 2; got \(1, 3\)"):
        Normal.of_features(torch.zeros(1, 3))
    with pytest.raises(NonFinite, match="NaN"):
        Normal.of_features(torch.full((2, 3), torch.nan))
    assert frechet_distance(Normal.of_features(torch.zeros(2, 3)), Normal.of_features(torch.ones(2, 3))) == 3


def test_as_many_pictures_as_features_are_too_few() -> None:
    assert caution(2049, 2048) is None
    sentence = caution(2048, 2048)
    assert sentence is not None and "n = 2048" in sentence and "singular" in sentence


def test_a_prepared_normal_gives_the_same_and_has_the_covariance() -> None:
    a, b = moments(rows(10, 15)), moments(rows(40, 15, seed=1))
    normal = Normal.of(a)
    torch.testing.assert_close(normal.factor @ normal.factor.T, a.cov, rtol=1e-9, atol=1e-9)
    assert normal.factor.shape == (15, 9)
    assert frechet_distance(normal, b) == frechet_distance(a, b)


def test_sets_of_equal_pictures_are_apart_by_their_means() -> None:
    a, b = moments(torch.zeros(4, 3)), moments(torch.full((5, 3), 2.0))
    assert frechet_distance(a, b) == 12


def test_features_of_two_networks_are_not_compared() -> None:
    with pytest.raises(InputError, match="3 and of 4 dimensions"):
        frechet_distance(moments(rows(9, 3)), moments(rows(9, 4)))
