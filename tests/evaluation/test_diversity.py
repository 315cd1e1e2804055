"""Precision, recall, coverage and pairwise distances: against brute force, known cases and what must not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation import diversity
from carrara.evaluation.diversity import Manifold, apart, overlap


def cloud(n: int, seed: int, dim: int = 5, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


def radius(points: list[Tensor], index: int, k: int) -> float:
    """Of the ball around one point, as the paper words it: to its k-th nearest neighbour, itself left out."""
    others = sorted(float((points[index] - p).norm()) for i, p in enumerate(points) if i != index)
    return others[k - 1]


def brute(samples: Tensor, real: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density, coverage in the papers' words, one pair at a time."""
    s, r = list(samples.double()), list(real.double())
    around_s, around_r = ([radius(points, i, k) for i in range(len(points))] for points in (s, r))
    in_real = [[float((a - b).norm()) <= around for b, around in zip(r, around_r, strict=True)] for a in s]
    in_samples = [[float((a - b).norm()) <= around for b, around in zip(s, around_s, strict=True)] for a in r]
    share = lambda rows: sum(map(any, rows)) / len(rows)  # noqa: E731
    density = sum(map(sum, in_real)) / (k * len(s))
    return share(in_real), share(in_samples), density, share(list(zip(*in_real, strict=True)))


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("values", [7, 40, 10_000])
def test_overlap_is_that_of_the_papers(k: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many distances are held at a time."""
    monkeypatch.setattr(diversity, "CHUNK_VALUES", values)
    samples, real = cloud(23, 1, shift=0.7), cloud(31, 2)
    found = overlap(Manifold.of(samples, k), Manifold.of(real, k))
    expected = brute(samples, real, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) >= 3 and found.k == k


def test_swapped_sets_swap_precision_and_recall() -> None:
    a, b = Manifold.of(cloud(30, 1, shift=0.5)), Manifold.of(0.4 * cloud(25, 2))
    one, two = overlap(a, b), overlap(b, a)
    assert (one.precision, one.recall) == (two.recall, two.precision) and one.precision != one.recall


def test_equal_sets_cover_each_other_in_any_order() -> None:
    real = cloud(40, 3)
    found = overlap(Manifold.of(real[torch.randperm(40)]), Manifold.of(real))
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_one_real_picture_again_and_again_is_precise_and_recalls_itself_alone() -> None:
    real = cloud(40, 3)
    found = overlap(Manifold.of(real[:1].expand(30, -1)), Manifold.of(real))
    assert found.precision == 1 and found.recall == pytest.approx(1 / 40)
    assert found.coverage < 0.5


def test_what_lies_far_away_is_neither() -> None:
    found = overlap(Manifold.of(cloud(40, 4, shift=50)), Manifold.of(cloud(40, 3)))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_half_of_the_kinds_is_precise_and_recalls_half() -> None:
    """Two far clusters, of which the samples know one."""
    real = torch.cat([cloud(200, 1), cloud(200, 2, shift=60)])
    found = overlap(Manifold.of(cloud(200, 5)), Manifold.of(real))
    whole = overlap(Manifold.of(cloud(200, 5)), Manifold.of(real[:200]))
    assert found.precision == whole.precision > 0.8
    assert found.recall == whole.recall / 2 > 0.4


def test_one_outlier_spoils_recall_and_not_coverage() -> None:
    """Why both are measured: samples in one far corner and one on the other side make a ball that holds everything."""
    real, far = cloud(100, 1), cloud(30, 2, shift=40)
    found = overlap(Manifold.of(torch.cat([far, -far[:1]])), Manifold.of(real))
    assert found.recall == 1 and found.coverage == 0


def test_rotation_shift_and_scale_do_not_matter() -> None:
    a, b = cloud(30, 1, shift=0.5).double(), cloud(25, 2).double()
    turn = torch.linalg.qr(cloud(5, 9).double()).Q
    moved = [Manifold.of(3 * x @ turn + 7) for x in (a, b)]
    assert overlap(*moved) == overlap(Manifold.of(a), Manifold.of(b))
    assert apart(3 * a @ turn + 7).overall == pytest.approx(3 * apart(a).overall, rel=1e-12)


@pytest.mark.parametrize("values", [5, 10_000])
def test_pairs_apart_are_the_mean_over_pairs_and_over_classes(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "CHUNK_VALUES", values)
    x, labels = cloud(12, 1).double(), torch.tensor([0, 0, 0, 0, 0, 2, 2, 2, 4, 4, 5, 7])
    pairs = [(i, j, float((x[i] - x[j]).norm())) for i in range(12) for j in range(i)]
    mean = lambda numbers: sum(numbers) / len(numbers)  # noqa: E731
    by_class = [mean([d for i, j, d in pairs if labels[i] == labels[j] == c]) for c in (0, 2, 4)]
    found = apart(x, labels)
    assert found.overall == pytest.approx(mean([d for *_, d in pairs]), rel=1e-12)
    assert found.same_class == pytest.approx(mean(by_class), rel=1e-12)
    assert apart(x) == diversity.Apart(pytest.approx(found.overall), None)  # type: ignore[arg-type]


def test_one_picture_a_class_is_zero_within_and_not_between() -> None:
    labels = torch.arange(20) % 4
    found = apart(cloud(4, 1)[labels], labels)
    assert found.same_class == 0 and found.overall > 1
    assert apart(cloud(4, 1), torch.arange(4)).same_class is None


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match=r"3-th nearest .* got 3 pictures"):
        Manifold.of(cloud(3, 1))
    with pytest.raises(InputError, match="k of at least 1"):
        Manifold.of(cloud(3, 1), k=0)
    with pytest.raises(InputError, match=r"\(N, dim\)"):
        Manifold.of(torch.zeros(5, 1, 8, 8))
    with pytest.raises(InputError, match="5 and of 4 dimensions"):
        overlap(Manifold.of(cloud(9, 1)), Manifold.of(cloud(9, 1, dim=4)))
    with pytest.raises(NonFinite, match="NaN"):
        Manifold.of(torch.full((9, 2), torch.nan))
    with pytest.raises(InputError, match="at least 2"):
        apart(cloud(1, 1))
    with pytest.raises(InputError, match="9 pictures need as many labels"):
        apart(cloud(9, 1), torch.zeros(8, dtype=torch.int64))
