"""Near copies by features: found among what is usual, against brute force."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation import feature_neighbours
from carrara.evaluation.feature_neighbours import feature_memorisation, nearest_features


def cloud(n: int, seed: int, dim: int = 6) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("values", [7, 4_000_000])
def test_the_nearest_is_that_of_all_pairs(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_neighbours, "CHUNK_VALUES", values)
    queries, train = cloud(23, 1), cloud(40, 2)
    found = nearest_features(queries, train)
    for row, distance, index in zip(queries.double(), found.distance, found.index, strict=True):
        all_of_them = [float((row - other).norm()) for other in train.double()]
        assert float(distance) == pytest.approx(min(all_of_them), rel=1e-12)
        assert all_of_them[int(index)] == min(all_of_them)


def test_a_copy_is_at_zero_however_far_from_the_origin() -> None:
    train = cloud(30, 1) + 1e4
    found = nearest_features(train[5:8], train)
    assert found.distance.tolist() == [0, 0, 0] and found.index.tolist() == [5, 6, 7]


def test_what_was_never_seen_is_as_near_as_held_out_pictures() -> None:
    train = cloud(500, 1)
    found = [feature_memorisation(cloud(100, 2 * i), cloud(120, 2 * i + 1), train) for i in range(1, 60)]
    z = torch.tensor([one.z for one in found])
    assert abs(float(z.mean())) < 0.5 and 0.7 < float(z.std()) < 1.3
    assert sum(one.nearer_than_heldout for one in found) / len(found) == pytest.approx(0.5, abs=0.02)
    assert sum(one.nearer_share for one in found) / len(found) < 0.04


@pytest.mark.parametrize("blur", [0.0, 0.05])
def test_copies_and_near_copies_are_found(blur: float) -> None:
    train, heldout = cloud(500, 1), cloud(200, 2)
    samples = torch.cat([train[:30] + blur * cloud(30, 4), cloud(70, 3)])
    found = feature_memorisation(samples, heldout, train)
    assert found.nearer_share == pytest.approx(0.3, abs=0.04) and found.z > 2
    assert found.minimum < found.heldout_minimum and (found.minimum == 0) == (blur == 0)
    assert found.nearest.index[:30].tolist() == list(range(30))


def test_samples_that_lie_off_are_told_by_the_other_sign() -> None:
    found = feature_memorisation(cloud(100, 3) + 5, cloud(200, 2), cloud(500, 1))
    assert found.z < -2 and found.nearer_than_heldout < 0.05 and found.nearer_share == 0


def test_ties_count_half() -> None:
    same = cloud(9, 1)
    found = feature_memorisation(same, same, same)
    assert found.nearer_than_heldout == 0.5 and found.z == 0


def test_how_often_a_sample_is_nearer_is_counted_over_all_pairs() -> None:
    train, samples, heldout = cloud(50, 1), cloud(20, 2), cloud(30, 3) * 1.2
    mine, theirs = (nearest_features(side, train).distance for side in (samples, heldout))
    pairs = [float(a < b) + float(a == b) / 2 for a in mine for b in theirs]
    assert feature_memorisation(samples, heldout, train).nearer_than_heldout == pytest.approx(sum(pairs) / 600)


def test_the_result_says_what_it_compared() -> None:
    calls: list[tuple[int, int]] = []
    found = feature_memorisation(
        cloud(8, 1), cloud(9, 2), cloud(30, 3), progress=lambda done, total: calls.append((done, total))
    )
    assert "n = 8, 9 held-out, 30 training images" in str(found) and calls[-1] == (17 * 30, 17 * 30)
    kept = json.loads(json.dumps(found.as_dict()))
    assert kept["median"] == found.median and "nearest" not in kept


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match=r"samples must have the shape \(N, dim\), N at least 1; got \(0, 6\)"):
        feature_memorisation(cloud(0, 1), cloud(9, 2), cloud(9, 3))
    with pytest.raises(InputError, match="held-out pictures have 5 dimensions and those of training pictures 6"):
        feature_memorisation(cloud(9, 1), cloud(9, 2, dim=5), cloud(9, 3))
    with pytest.raises(InputError, match=r"training pictures must have .* got \(0, 6\)"):
        nearest_features(cloud(9, 1), cloud(0, 2))
    with pytest.raises(InputError, match="queries have 5 dimensions"):
        nearest_features(cloud(9, 1, dim=5), cloud(9, 2))
    with pytest.raises(NonFinite, match="training pictures hold NaN"):
        feature_memorisation(cloud(9, 1), cloud(9, 2), torch.full((9, 6), torch.nan))
