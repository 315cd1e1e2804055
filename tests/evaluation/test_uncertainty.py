"""At infinite n the bias is gone, the interval holds the truth as often as it says, and nothing is dear."""

from __future__ import annotations

import json
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation.frechet import Normal, frechet_distance
from carrara.evaluation.uncertainty import Against, Estimate, at_infinity, bootstrap, estimate, nuclear_norm


class World:
    """Two Gaussians in `dim` dimensions with variances like 1 / k², a known distance apart."""

    def __init__(self, dim: int, apart: float = 0.5) -> None:
        rng = torch.Generator().manual_seed(7)
        real = 1 / torch.arange(1, dim + 1, dtype=torch.float64)
        self.scale = real * (1 + apart * torch.rand(dim, generator=rng, dtype=torch.float64))
        self.mean = apart * real * torch.randn(dim, generator=rng, dtype=torch.float64)
        self.reference = Normal(torch.zeros(dim, dtype=torch.float64), real.diag())
        self.real = real
        self.distance = float(self.mean.square().sum() + (self.scale - real).square().sum())

    def samples(self, n: int, seed: int) -> Tensor:
        return self._normal(n, seed) * self.scale + self.mean

    def reals(self, n: int, seed: int) -> Tensor:
        return self._normal(n, seed + 10_000) * self.real

    def _normal(self, n: int, seed: int) -> Tensor:
        return torch.randn(n, len(self.mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "dim"), [(2, 6), (5, 12), (12, 12), (60, 12)])
@pytest.mark.parametrize("rank", [4, 12])
def test_a_weighting_is_as_far_as_the_set_it_stands_for(n: int, dim: int, rank: int) -> None:
    world = World(12)
    reference = Normal(world.mean, world.reference.factor[:, :rank])
    features = world.samples(n, 0)
    weights = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(n)).index_fill_(
        0, torch.tensor([0, 1]), 1
    )
    against = Against.of(features, reference)
    for counts in (weights, torch.ones(n)):
        repeated = features.repeat_interleave(counts.long(), 0)
        expected = frechet_distance(Normal.of_features(repeated), reference)
        assert against.distance(counts) == pytest.approx(expected, rel=1e-6)


def test_the_nuclear_norm_is_the_sum_of_the_singular_values() -> None:
    matrix = torch.randn(7, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for turned in (matrix, matrix.T):
        assert nuclear_norm(turned) == pytest.approx(float(torch.linalg.svdvals(matrix).sum()), rel=1e-9)


@pytest.mark.parametrize(("n", "dim", "share"), [(60, 20, 0.1), (200, 20, 0.1), (30, 60, 0.25)])
def test_at_infinity_the_bias_is_far_smaller(n: int, dim: int, share: float) -> None:
    world = World(dim)
    plain, infinite = [], []
    for seed in range(150):
        line = at_infinity(world.samples(n, seed), world.reference)
        plain.append(line.distances[0] - world.distance)
        infinite.append(line.value - world.distance)
    chance = 2 * stdev(infinite) / len(infinite) ** 0.5
    assert fmean(plain) > 0
    assert abs(fmean(infinite)) < share * fmean(plain) + chance


def test_with_the_references_features_the_bias_of_both_sets_goes() -> None:
    world = World(20)
    plain, one, both = [], [], []
    for seed in range(80):
        samples, reals = world.samples(100, seed), world.reals(100, seed)
        plain.append(frechet_distance(Normal.of_features(samples), Normal.of_features(reals)) - world.distance)
        one.append(at_infinity(samples, Normal.of_features(reals)).value - world.distance)
        both.append(at_infinity(samples, reals).value - world.distance)
    assert abs(fmean(both)) < 0.25 * fmean(one) and fmean(one) < 0.8 * fmean(plain)


def test_the_line_does_not_add_to_what_chance_does() -> None:
    world = World(20)
    lines = [at_infinity(world.samples(200, seed), world.reference) for seed in range(150)]
    assert stdev(line.value for line in lines) < 1.1 * stdev(line.distances[0] for line in lines)


@pytest.mark.parametrize(("n", "dim"), [(200, 20), (60, 100)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(n: int, dim: int) -> None:
    world = World(dim)
    found = [estimate(world.samples(n, seed), world.reference, level=0.8, replicates=40) for seed in range(150)]
    held = fmean(one.low <= world.distance <= one.high for one in found)
    # Four standard errors of 150 draws.
    assert abs(held - 0.8) < 0.13
    assert fmean(one.deviation for one in found) == pytest.approx(stdev(one.value for one in found), rel=0.2)


def test_the_same_features_give_the_same_and_the_seed_moves_the_draws_alone() -> None:
    world = World(10)
    features = world.samples(50, 0)
    first, again, other = (estimate(features, world.reference, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.infinite == other.infinite and first.deviation != other.deviation


def test_every_size_is_of_all_the_pictures() -> None:
    line = at_infinity(World(4).samples(25, 0), World(4).reference, parts=4)
    assert line.sizes == (25, 12.5, 25 / 3, 6.25) and len(line.distances) == 4
    assert line.slope > 0 and line.value < line.distances[0]


def test_an_estimate_says_what_it_depends_on_and_is_kept_as_json() -> None:
    world = World(30)
    few, some, many = (estimate(world.samples(n, 0), world.reference, replicates=20) for n in (30, 31, 91))
    assert Estimate(**json.loads(json.dumps(few.as_dict()))) == few
    assert few.caution is not None and "n = 30 is not above the 30 features" in str(few)
    assert some.caution == "parts of 10 pictures in 30 dimensions leave some of the bias at infinite n"
    assert many.caution is None and "at n = 91" in str(many) and "95% interval" in str(many)
    assert many.low < many.infinite < many.high and (many.n, many.dim, many.replicates) == (91, 30, 20)


def test_equal_pictures_are_measured_and_give_no_interval() -> None:
    found = estimate(torch.ones(6, 3), torch.zeros(8, 3), replicates=5)
    assert found.value == found.infinite == 3 and found.deviation == 0
    assert bootstrap(torch.ones(2, 3), World(3).reference, 5)[0] > 0


def test_what_cannot_be_estimated_is_refused() -> None:
    world = World(5)
    reference = world.reference
    with pytest.raises(InputError, match=r"at least 2; got \(1, 5\)"):
        bootstrap(world.samples(1, 0), reference)
    with pytest.raises(InputError, match="at least 2 replicates; got 1"):
        bootstrap(world.samples(9, 0), reference, replicates=1)
    with pytest.raises(InputError, match=r"3 parts.*need 6 pictures; got 5"):
        at_infinity(world.samples(5, 0), reference)
    with pytest.raises(InputError, match="need 6 pictures; got 4"):
        at_infinity(world.samples(9, 0), world.reals(4, 0))
    with pytest.raises(InputError, match="at least 2 sizes; got 1"):
        at_infinity(world.samples(9, 0), reference, parts=1)
    with pytest.raises(InputError, match="4 and of 5 dimensions"):
        at_infinity(world.samples(9, 0)[:, :4], reference)
    with pytest.raises(InputError, match="between 0 and 1; got 95"):
        estimate(world.samples(9, 0), reference, level=95)
    with pytest.raises(NonFinite, match="NaN"):
        estimate(world.samples(9, 0) * torch.nan, reference)
