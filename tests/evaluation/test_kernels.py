"""KID and CMMD: the estimators of the papers and of the tools, unbiased, with an error that is one."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation import kernels
from carrara.evaluation.kernels import KernelDistance, cmmd, kid, subset_kid


def cloud(n: int, seed: int, dim: int = 8, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def slowly(a: Tensor, b: Tensor, kernel: str, biased: bool = False) -> float:
    """MMD² one pair at a time."""

    def k(x: Tensor, y: Tensor) -> float:
        if kernel == "cubic":
            return (float(x @ y) / len(x) + 1) ** 3
        x, y = x / x.norm(), y / y.norm()
        return 1000 * math.exp(-float((x - y).square().sum()) / (2 * 10**2))

    def within(rows: Tensor) -> float:
        pairs = itertools.product(rows, repeat=2) if biased else itertools.permutations(rows, 2)
        values = [k(x, y) for x, y in pairs]
        return sum(values) / len(values)

    return within(a) + within(b) - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize("values", [5, 4_000_000])
def test_both_are_the_papers_sums_over_pairs(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many values are held at a time, and for sets of different sizes."""
    monkeypatch.setattr(kernels, "CHUNK_VALUES", values)
    a, b = cloud(7, 1, shift=0.3), cloud(11, 2)
    for measure, kernel in ((kid, "cubic"), (cmmd, "gaussian")):
        found = measure(a, b)
        assert found.value == pytest.approx(slowly(a, b, kernel), rel=1e-10)
        assert found.biased == pytest.approx(slowly(a, b, kernel, biased=True), rel=1e-10)
        assert (found.n, found.reference_n) == (7, 11)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_kid_is_that_of_torchmetrics(shift: float) -> None:
    kid_of = pytest.importorskip("torchmetrics.image.kid")
    a, b = cloud(200, 1, dim=64, shift=shift), cloud(200, 2, dim=64)
    assert kid(a, b).value == pytest.approx(float(kid_of.poly_mmd(a, b)), rel=1e-6, abs=1e-12)
    judge = kid_of.KernelInceptionDistance(feature=torch.nn.Identity(), subsets=3, subset_size=200)
    judge.update(b, real=True)
    judge.update(a, real=False)
    mean, _ = judge.compute()
    found = subset_kid(a, b, subsets=3)
    assert found.mean == pytest.approx(float(mean), rel=1e-6, abs=1e-12)
    assert found.spread < 1e-12 and found.size == 200


def test_the_cubic_of_the_tools_is_ours() -> None:
    """torch-fidelity's steps (metric_kid.py of 0.4.0): degree 3, gamma 1 / dim, coefficient 1, no diagonal."""
    a, b = cloud(50, 1, shift=0.2).numpy(), cloud(50, 2).numpy()
    xx, yy, xy = ((p @ q.T * (1.0 / 8) + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
    judge = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (50 * 49) - 2 * xy.sum() / 50**2
    assert kid(torch.from_numpy(a), torch.from_numpy(b)).value == pytest.approx(judge, rel=1e-6)


def test_a_set_against_itself() -> None:
    """What is left is the pairs of a picture with itself, which lie in the mixed sum alone; biased, it is 0."""
    x = cloud(60, 3)
    for measure, kernel in ((kid, kernels.cubic), (cmmd, kernels.gaussian)):
        found, rows = measure(x, x), x if measure is kid else torch.nn.functional.normalize(x, dim=1)
        values = kernel(rows, rows)
        alone = float(values.diagonal().mean())
        others = float((values.sum() - values.trace()) / (60 * 59))
        assert found.value == pytest.approx(-2 / 60 * (alone - others), rel=1e-9) and found.value < 0
        assert found.biased == pytest.approx(0, abs=1e-12 * alone)


def test_the_order_of_pictures_and_of_sets_does_not_matter() -> None:
    a, b = cloud(40, 1, shift=0.3), cloud(30, 2)
    for measure in (kid, cmmd):
        found, mixed, swapped = measure(a, b), measure(a[torch.randperm(40)], b.flip(0)), measure(b, a)
        for other in (mixed, swapped):
            assert other.value == pytest.approx(found.value, rel=1e-9)
            assert other.error == pytest.approx(found.error, rel=1e-9)


def test_sets_of_one_law_are_at_zero_in_the_mean() -> None:
    """However few the pictures, where the biased estimate stays far above it."""
    for measure, sizes in ((kid, (6, 9)), (cmmd, (6, 9))):
        found = [measure(cloud(sizes[0], 2 * i), cloud(sizes[1], 2 * i + 1)) for i in range(400)]
        values = torch.tensor([one.value for one in found])
        error = float(values.std()) / 20
        assert abs(float(values.mean())) < 3 * error
        assert sum(one.biased for one in found) / 400 > 10 * error


def test_sets_of_two_laws_are_at_their_distance_in_the_mean_whatever_n() -> None:
    few = torch.tensor([kid(cloud(5, i, shift=0.5), cloud(5, 1000 + i)).value for i in range(600)])
    many = kid(cloud(4000, 5001, shift=0.5), cloud(4000, 5000))
    assert many.error is not None and many.interval is not None
    assert float(few.mean()) == pytest.approx(many.value, abs=4 * float(few.std()) / 600**0.5)
    assert many.interval[0] > 0


def test_the_error_is_the_spread_over_draws() -> None:
    """As it is for sets of two laws, and at most √2 times too wide for sets of one."""
    for shift, low, high in ((0.5, 0.85, 1.2), (0.0, 1.0, 1.7)):
        found = [kid(cloud(50, 2 * i, shift=shift), cloud(70, 2 * i + 1)) for i in range(400)]
        errors = [one.error for one in found if one.error is not None]
        spread = float(torch.tensor([one.value for one in found]).std())
        assert low < (sum(error**2 for error in errors) / 400) ** 0.5 / spread < high


def test_the_error_is_the_jackknifes() -> None:
    """Every picture of either set left out once."""
    a, b = cloud(7, 1, shift=0.3), cloud(11, 2)
    for measure in (kid, cmmd):
        without = [[measure(torch.cat([a[:i], a[i + 1 :]]), b).value for i in range(7)],
                   [measure(a, torch.cat([b[:i], b[i + 1 :]])).value for i in range(11)]]  # fmt: skip
        variance = sum((len(v) - 1) * float(torch.tensor(v).var(correction=0)) for v in without)
        assert measure(a, b).error == pytest.approx(math.sqrt(variance), rel=1e-5)


def test_the_interval_is_left_out_where_two_pictures_tell_nothing_of_it() -> None:
    found = kid(cloud(2, 1), cloud(9, 2))
    assert found.error is None and found.interval is None and "±" not in str(found)


def test_kid_over_subsets_is_kid_with_noise() -> None:
    a, b = cloud(90, 1, shift=0.5), cloud(120, 2)
    found, whole = subset_kid(a, b, subsets=400, size=30), kid(a, b)
    assert found.mean == pytest.approx(whole.value, abs=4 * found.error)
    assert found.error == pytest.approx(found.spread / 20) and found.spread > 0
    assert subset_kid(a, b, subsets=400, size=30) == found != subset_kid(a, b, subsets=400, size=30, seed=1)
    assert subset_kid(a, b, subsets=2).size == 90


def test_a_subset_is_drawn_without_replacement() -> None:
    """Of far-off points each must come once: then a subset as large as the set is the set."""
    a = 10.0 ** torch.arange(6, dtype=torch.float64)[:, None]
    whole = kid(a, -a)
    assert subset_kid(a, -a, subsets=5).mean == pytest.approx(whole.value, rel=1e-12)


def test_the_farther_the_greater() -> None:
    values = [(kid(cloud(80, 1, shift=s), cloud(80, 2)).value, cmmd(cloud(80, 1, shift=s), cloud(80, 2)).value)
              for s in (0.0, 0.3, 0.6, 1.2)]  # fmt: skip
    assert [list(column) for column in zip(*values, strict=True)] == [
        sorted(column) for column in zip(*values, strict=True)
    ]


def test_the_length_of_an_embedding_does_not_matter_to_cmmd() -> None:
    a, b = cloud(20, 1, shift=0.3), cloud(20, 2)
    assert cmmd(5 * a, b / 7).value == pytest.approx(cmmd(a, b).value, rel=1e-9)
    assert kid(5 * a, b).value != pytest.approx(kid(a, b).value, rel=1e-3)


def test_the_result_says_what_it_compared() -> None:
    found = cmmd(cloud(20, 1), cloud(30, 2))
    assert str(found).startswith("CMMD ") and str(kid(cloud(20, 1), cloud(30, 2))).startswith("KID ")
    assert "n = 20 against 30" in str(found) and "exp" in str(found) and "±" in str(found)
    assert KernelDistance(**json.loads(json.dumps(found.as_dict()))) == found
    subsets = subset_kid(cloud(20, 1), cloud(30, 2), subsets=7)
    assert "over 7 subsets of 20; n = 20 against 30" in str(subsets)
    assert json.loads(json.dumps(subsets.as_dict()))["size"] == 20


def test_progress_rises_to_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CHUNK_VALUES", 50)
    calls: list[tuple[int, int]] = []
    kid(cloud(20, 1), cloud(30, 2), progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls}) and calls[-1][0] == calls[-1][1]
    calls.clear()
    subset_kid(cloud(9, 1), cloud(9, 2), subsets=4, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_cannot_be_measured_is_refused() -> None:
    for measure in (kid, subset_kid, cmmd):
        with pytest.raises(InputError, match=r"at least 2 pictures on each side; got \(1, 8\) of samples"):
            measure(cloud(1, 1), cloud(9, 2))
        with pytest.raises(InputError, match=r"\(9, 8, 1\) of real"):
            measure(cloud(9, 1), cloud(9, 2)[..., None])
        with pytest.raises(InputError, match="8 and of 5 dimensions"):
            measure(cloud(9, 1), cloud(9, 2, dim=5))
        with pytest.raises(NonFinite, match="real pictures hold NaN"):
            measure(cloud(9, 1), torch.full((9, 8), torch.nan))
    for subsets, size in ((0, 5), (3, 1), (3, 10)):
        with pytest.raises(InputError, match=f"{subsets} subsets of {size} pictures .* of 2 to 9"):
            subset_kid(cloud(9, 1), cloud(12, 2), subsets=subsets, size=size)
    with pytest.raises(InputError, match="no direction"):
        cmmd(torch.zeros(9, 8), cloud(9, 2))


def test_two_equal_pictures_are_a_set_like_others() -> None:
    twice = cloud(1, 1).expand(2, -1)
    assert kid(twice, twice).value == pytest.approx(0, abs=1e-12)
    assert kid(twice, cloud(9, 2)).value == pytest.approx(slowly(twice, cloud(9, 2), "cubic"), rel=1e-9)
