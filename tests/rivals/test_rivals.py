"""The peers as contestants: as many parameters as asked for, gone on with bit by bit, pictures of the right shape."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.rivals.pictures import cropped, labels_in_turn, padded, training_batch
from benchmarks.rivals.races import STATE, average_of, in_chunks, sampled, trained
from benchmarks.rivals.rival import MODES, Rival
from benchmarks.rivals.sizes import candidates, narrowed, unlikeness
from torch import Tensor

from carrara.data import Dataset, Split
from carrara.errors import InputError
from carrara.training.learner import seeded

Make = Callable[[], Rival]
IMAGES = 24


def diffusers_tiny() -> Rival:
    pytest.importorskip("diffusers", reason="the peer is not installed: pip install 'carrara[bench]'")
    from benchmarks.rivals.of_diffusers import OfDiffusers

    with seeded(0):
        return OfDiffusers(1, 3, 12, MODES["float32"], widths=(32, 32, 32, 32), batch=2)


def ddpm_tiny() -> Rival:
    if importlib.util.find_spec("denoising_diffusion_pytorch") is None:
        pytest.skip("the peer is not installed: `make bench-quality` installs it")
    from benchmarks.rivals.of_ddpm_pytorch import OfDdpmPytorch

    with seeded(0):
        return OfDdpmPytorch(1, 8, MODES["float32"], widths=(8, 8), batch=2)


@pytest.fixture(params=[diffusers_tiny, ddpm_tiny])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    media = rng.integers(0, 256, (12, 1, 28, 28), dtype=np.uint8)
    split = Split(media, np.arange(12, dtype=np.int64) % 3)
    return Dataset("toy", ("a", "b", "c"), split, split, "f" * 64, "none", "drawn", flip=True)


def quiet(words: str) -> None:
    pass


def run(make: Make, dataset: Dataset, folder: Path, every_s: float) -> dict[str, Tensor]:
    trained(make(), dataset, 5, [4, IMAGES], folder, quiet, every_s)
    found: dict[str, Tensor] = torch.load(average_of(folder, IMAGES), weights_only=True)
    return found


def test_a_run_in_pieces_is_the_whole_run(
    make: Make, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(make, dataset, tmp_path / "whole", every_s=1e9)
    step = Rival.train_step

    def killed(self: Rival, images: Tensor, labels: Tensor) -> float:
        if self.images == 12:
            raise KeyboardInterrupt
        return step(self, images, labels)

    monkeypatch.setattr(Rival, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(make, dataset, tmp_path / "pieces", every_s=0.0)
    monkeypatch.undo()
    pieces = run(make, dataset, tmp_path / "pieces", every_s=1e9)
    assert all(torch.equal(pieces[key], value) for key, value in whole.items())
    states = [torch.load(tmp_path / name / STATE, weights_only=True) for name in ("whole", "pieces")]
    assert all(torch.equal(states[1]["net"][key], value) for key, value in states[0]["net"].items())


def test_snapshots_differ(make: Make, dataset: Dataset, tmp_path: Path) -> None:
    last = run(make, dataset, tmp_path / "one", every_s=1e9)
    first = torch.load(average_of(tmp_path / "one", 4), weights_only=True)
    assert any(not torch.equal(first[key], value) for key, value in last.items())


def test_samples_have_the_datasets_shape_and_are_kept(make: Make, dataset: Dataset, tmp_path: Path) -> None:
    rival = make()
    rival.save_average(tmp_path / "average.pt")
    few = rival.sample
    rival.sample = lambda n, labels, seed, steps=None: few(n, labels, seed, 2)  # type: ignore[method-assign]
    made = sampled(rival, dataset, tmp_path / "average.pt", 3, tmp_path / "run" / "samples")
    assert made.shape == (3, 1, 28, 28)
    assert made.dtype == torch.uint8
    assert torch.equal(made, in_chunks(3, tmp_path / "run" / "samples", lambda start, count: made[:0], quiet))
    assert torch.equal(few(2, torch.tensor([0, 1]), 7, 2), few(2, torch.tensor([0, 1]), 7, 2))


def test_a_label_for_each_sample(make: Make) -> None:
    with pytest.raises(InputError, match="2 samples"):
        make().sample(2, torch.zeros(3, dtype=torch.long), 0, 2)


def test_all_modes_train(dataset: Dataset) -> None:
    pytest.importorskip("diffusers", reason="the peer is not installed")
    from benchmarks.rivals.of_diffusers import OfDiffusers

    losses = []
    for mode in MODES.values():
        with seeded(0):
            rival = OfDiffusers(1, 3, 8, mode, widths=(32, 32, 32, 32), batch=2)
            losses.append(rival.train_step(*training_batch(dataset, 0, 0, 2)))
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.05)


def test_padding_is_undone_by_cropping(dataset: Dataset) -> None:
    images = torch.from_numpy(np.array(dataset.train.media))
    wide = padded(images)
    assert wide.shape == (12, 1, 32, 32)
    assert wide.sum() == images.sum()
    assert torch.equal(cropped(wide, 28, 28), images)
    assert labels_in_turn(dataset, 2, 3).tolist() == [2, 0, 1]


def squares(widths: tuple[int, ...]) -> int:
    return sum(width**2 for width in widths)


def test_narrowed_keeps_the_proportions() -> None:
    assert narrowed((64, 128, 256), squares((32, 64, 128)), squares) == (32, 64, 128)
    near = narrowed((64, 128, 256), int(squares((64, 96, 192)) * 1.04), squares)
    assert abs(squares(near) / (squares((64, 96, 192)) * 1.04) - 1) <= 0.05
    assert unlikeness((32, 64), (64, 128))[0] == 0 < unlikeness((32, 96), (64, 128))[0]


def test_narrowed_refuses_what_cannot_be() -> None:
    with pytest.raises(InputError, match="no widths"):
        narrowed((64, 128), 10, squares)


def test_candidates_never_fall() -> None:
    found = set(candidates((64, 96)))
    assert found == {(32, 32), (32, 64), (32, 96), (64, 64), (64, 96)}
