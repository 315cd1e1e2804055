"""Statistics files: a round trip, other tools' files, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pooled import Pooled

from carrara.errors import InputError, NonFinite
from carrara.evaluation.efficientnet import DIM as EFFICIENTNET
from carrara.evaluation.frechet import Normal, frechet_distance
from carrara.evaluation.inception_network import DIM
from carrara.evaluation.inception_network import SPATIAL_DIM as SPATIAL
from carrara.evaluation.reference import SPATIAL_DIM, Reference
from carrara.evaluation.statistics import Moments
from carrara.evaluation.statistics_file import MADE_BY, SPATIAL_KEYS, read_statistics, write_statistics


def moments(n: int = 60, dim: int = 5, seed: int = 0) -> Moments:
    found = Moments(dim)
    rng = torch.Generator().manual_seed(seed)
    found.update(torch.randn(n, dim, generator=rng) @ torch.randn(dim, dim, generator=rng))
    return found


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    given, path = moments(), tmp_path / "stats.npz"
    write_statistics(path, given)
    found = read_statistics(path)
    assert found.n == 60
    torch.testing.assert_close(found.mean, given.mean, rtol=0, atol=0)
    torch.testing.assert_close(found.cov, given.cov, rtol=1e-12, atol=1e-12)
    other = moments(seed=1)
    assert frechet_distance(found.normal(), other) == pytest.approx(frechet_distance(given, other), rel=1e-9)


def test_sfids_statistics_are_found_beside_fids(tmp_path: Path) -> None:
    dim = SPATIAL_DIM
    both = {"mu": np.zeros(2048), "sigma": np.eye(2048), "mu_s": np.ones(dim), "sigma_s": np.eye(dim)}
    path = saved(tmp_path / "both.npz", **both)
    assert Reference.read(path, Pooled(dim=2048)).normal.mean.sum() == 0
    assert Reference.read(path, Pooled(dim=dim)).normal.mean.sum() == dim
    assert str(Reference.read(path, Pooled(dim=dim))) == "the file both.npz (number unknown)"
    assert MADE_BY.keys() == {EFFICIENTNET, SPATIAL, DIM} and SPATIAL_DIM == SPATIAL


def test_statistics_with_a_count_take_more_pictures(tmp_path: Path) -> None:
    whole, path = moments(), tmp_path / "stats.npz"
    write_statistics(path, whole)
    joined = read_statistics(path).moments()
    joined.merge(moments(seed=1))
    whole.merge(moments(seed=1))
    torch.testing.assert_close(joined.cov, whole.cov, rtol=1e-10, atol=1e-10)
    assert joined.n == 120


def test_others_read_ours_by_the_usual_keys(tmp_path: Path) -> None:
    write_statistics(tmp_path / "stats.npz", moments())
    with np.load(tmp_path / "stats.npz") as archive:
        assert archive["mu"].shape == (5,) and archive["sigma"].shape == (5, 5)


def test_a_file_of_another_tool_in_float32_without_count_is_measured_against(tmp_path: Path) -> None:
    given = moments()
    path = saved(tmp_path / "other.npz", mu=given.mean.numpy().astype("f4"), sigma=given.cov.numpy().astype("f4"))
    found = read_statistics(path)
    assert found.n is None and found.mean.dtype == torch.float64
    assert frechet_distance(found.normal(), Normal.of(given)) < 1e-5
    with pytest.raises(InputError, match="count"):
        found.moments()


def test_the_spatial_statistics_beside_them_are_read_by_their_keys(tmp_path: Path) -> None:
    given = moments(dim=3)
    path = saved(tmp_path / "adm.npz", arr_0=np.zeros(2), mu_s=given.mean.numpy(), sigma_s=given.cov.numpy())
    assert read_statistics(path, SPATIAL_KEYS).mean.shape == (3,)
    with pytest.raises(InputError, match=r"no mu and no sigma, but arr_0, mu_s, sigma_s"):
        read_statistics(path)


EYE = np.eye(3)
MEAN = np.zeros(3)


@pytest.mark.parametrize(
    ("arrays", "error", "sentence"),
    [
        ({"mu": MEAN}, InputError, "no sigma, but mu:"),
        ({"mu": MEAN, "sigma": np.eye(4)}, InputError, r"got \(3,\) and \(4, 4\)"),
        ({"mu": EYE, "sigma": EYE}, InputError, r"got \(3, 3\) and \(3, 3\)"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, InputError, r"got \(0,\)"),
        ({"mu": MEAN * np.nan, "sigma": EYE}, NonFinite, "NaN"),
        ({"mu": MEAN, "sigma": np.full((3, 3), np.inf)}, NonFinite, "infinity"),
        ({"mu": MEAN, "sigma": EYE + np.eye(3, k=1)}, InputError, "not symmetric"),
        ({"mu": MEAN, "sigma": -EYE}, InputError, "negative variance, -1"),
        ({"mu": np.array([{}]), "sigma": EYE}, InputError, "cannot be read"),
        ({"mu": np.array(["a", "b", "c"]), "sigma": EYE}, InputError, "numbers"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, arrays: dict[str, object], error: type, sentence: str) -> None:
    path = saved(tmp_path / "stats.npz", **arrays)
    with pytest.raises(error, match=sentence) as caught:
        read_statistics(path)
    assert "stats.npz" in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("mu sigma")
    np.save(tmp_path / "array.npy", EYE)
    write_statistics(tmp_path / "half.npz", moments())
    (tmp_path / "half.npz").write_bytes((tmp_path / "half.npz").read_bytes()[:300])
    for name in ("text.npz", "array.npy", "half.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            read_statistics(tmp_path / name)
    with pytest.raises(InputError, match="at least 2"):
        write_statistics(tmp_path / "one.npz", Moments(3))
