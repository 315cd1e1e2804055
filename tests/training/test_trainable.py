"""Diffusion as a trainable: each image its own noise, whatever the batch; held-out figures that stay."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small import opened
from torch import Tensor

from carrara.codecs.pixels import Pixels
from carrara.data.dataset import Split
from carrara.errors import DataError
from carrara.recipe import check
from carrara.training import trainable
from carrara.training.examples import Examples
from carrara.training.run import Run, dataset_of
from carrara.training.trainable import data_std
from carrara.training.world import World


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = opened(tmp_path)
    run.model.denoiser.eval()
    with torch.no_grad():
        for parameter in run.model.denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return run


def losses(run: Run, start: int, count: int) -> Tensor:
    with torch.no_grad():
        return run.trainable.loss("denoiser", start, count)


def test_an_image_s_loss_does_not_depend_on_those_beside_it(run: Run) -> None:
    whole = losses(run, 32, 16)
    parts = torch.cat([losses(run, 32, 4), losses(run, 36, 4), losses(run, 40, 8)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert whole.dtype == torch.float32 and len(set(whole.tolist())) == 16


def test_the_next_epoch_has_other_noise(run: Run) -> None:
    n = len(run.dataset.train)
    assert not torch.equal(losses(run, 0, 16), losses(run, 16 * n, 16))


def test_heldout_figures_are_those_of_the_weights_alone(run: Run) -> None:
    before = run.trainable.heldout()
    losses(run, 0, 16)
    torch.manual_seed(5)
    run.model.denoiser.train()
    assert run.trainable.heldout() == before
    with torch.no_grad():
        run.model.denoiser.network.leave.weight.mul_(2)
    assert run.trainable.heldout() != before


def test_pictures_are_mirrored_where_the_data_allows_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def loss(examples: Examples, batch: dict[str, Tensor], *rest: Any) -> Tensor:
        seen.append(batch["media"])
        return torch.zeros(len(batch["media"]))

    monkeypatch.setattr(run.trainable, "_loss", loss)
    losses(run, 0, 64)
    object.__setattr__(run.dataset, "flip", True)
    losses(run, 0, 64)
    plain, drawn = seen
    same, mirrored = (torch.all((drawn == other).flatten(1), 1) for other in (plain, plain.flip(-1)))
    assert bool((same | mirrored).all()) and 20 < int(mirrored.sum()) < 44


def test_the_data_s_standard_deviation_is_measured_in_x0(run: Run) -> None:
    media = run.dataset.train.media
    assert data_std(Pixels(), run.dataset.train) == pytest.approx(media.std() / 127.5, rel=1e-3)
    part = Split(media[:10], run.dataset.train.labels[:10])
    assert data_std(Pixels(), run.dataset.train, limit=10) == data_std(Pixels(), part)


def test_measured_is_put_into_the_recipe(tmp_path: Path) -> None:
    changes = ["schedule.kind=edm", "prediction.kind=edm", "prediction.data_std=measured", "weight.kind=edm"]
    measured = opened(tmp_path, changes=changes)
    expected = round(data_std(Pixels(), measured.dataset.train), 4)
    assert measured.recipe.sections["prediction"]["data_std"] == expected
    assert measured.model.denoiser.prediction.data_std == expected
    assert opened(tmp_path, changes=changes).recipe == measured.recipe


def test_windows_that_no_text_fills_are_refused_before_a_network_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letters.txt").write_text("\n\n".join(f"paragraph number {i}" for i in range(200)))
    content = {
        "data": {"kind": "texts", "path": str(tmp_path / "letters.txt")},
        "codec": {"kind": "bytes", "length": 1_000_000},
        "condition": {"kind": "none"},
        "network": {"kind": "tokens"},
        "process": {"kind": "masked"},
        "sampling": {"sampler": "cached"},
    }
    recipe = check(content)
    monkeypatch.setattr(trainable, "build", lambda *given: pytest.fail("a network was made"))
    with pytest.raises(DataError, match="shorter than one window of 1000000 tokens"):
        trainable.trainable_of(recipe, dataset_of(recipe), recipe.build("training"), World())
