"""Averages kept on a run's way, and the model of a length chosen afterwards."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small import BATCH, differing, opened, state, stepped, trained
from torch import Tensor

from carrara.averaging import exponent
from carrara.errors import DamagedFile, InputError, RecipeError
from carrara.training.averages import averaged, snapshots
from carrara.training.budget import due

STEPS = 24
KEPT = ("training.averages=[0.05, 0.1]", "training.snapshots=8", "training.previews=1")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Tensor]]]:
    """A finished run that kept averages, and its weights after each step."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run, weights = opened(folder, STEPS * BATCH, KEPT), []
    weights += [copies(run.learner.parameters["denoiser"]) for _ in run.train()]
    return folder, weights


def copies(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: p.detach().clone() for key, p in named.items()}


def exact(weights: list[dict[str, Tensor]], length: float, steps: int = STEPS) -> dict[str, Tensor]:
    """The average of a length after so many steps, by its definition."""
    ends = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** (exponent(length) + 1)
    return {
        key: sum(share * w[key].double() for share, w in zip(ends.diff(), weights, strict=False))
        for key in weights[0]
    }


def error(model: Any, wanted: dict[str, Tensor], weights: list[dict[str, Tensor]]) -> float:
    """How far the model's weights lie from the wanted ones, over how far training went."""
    named = dict(model.denoiser.named_parameters())
    missed = sum(float((named[key].detach() - w).square().sum()) for key, w in wanted.items())
    went = sum(float((weights[-1][key] - w).square().sum()) for key, w in weights[0].items())
    return float((missed / went) ** 0.5)


@pytest.mark.parametrize(("length", "within"), [(0.05, 1e-5), (0.1, 1e-5), (0.07, 0.003), (0.2, 0.02)])
def test_an_average_of_any_length_is_what_it_would_have_been(
    seen: tuple[Path, list[dict[str, Tensor]]], length: float, within: float
) -> None:
    folder, weights = seen
    assert error(averaged(folder, length), exact(weights, length), weights) < within


def test_an_average_can_end_before_the_run_does(seen: tuple[Path, list[dict[str, Tensor]]]) -> None:
    folder, weights = seen
    half = averaged(folder, 0.1, STEPS // 2 * BATCH)
    assert error(half, exact(weights, 0.1, STEPS // 2), weights) < 1e-5
    assert half.facts["average_images"] == STEPS // 2 * BATCH


def test_a_run_in_pieces_keeps_what_the_whole_run_keeps(
    tmp_path: Path, seen: tuple[Path, list[dict[str, Tensor]]]
) -> None:
    trained(tmp_path / "pieces", STEPS * BATCH, KEPT, steps=7)
    pieces = stepped(opened(tmp_path / "pieces", STEPS * BATCH, KEPT))
    whole = opened(seen[0], STEPS * BATCH, KEPT)
    assert differing(state(pieces), state(whole)) == []
    names = [folder.name for folder, _ in snapshots(seen[0])]
    assert names == [folder.name for folder, _ in snapshots(tmp_path / "pieces")] and len(names) == 8
    for name in names:
        one, other = (
            json.loads((at / "averages" / name / "manifest.json").read_text())
            for at in (seen[0], tmp_path / "pieces")
        )
        assert one == other


def test_training_goes_as_without_them(tmp_path: Path) -> None:
    one, other = trained(tmp_path / "one", 4 * BATCH, KEPT), trained(tmp_path / "other", 4 * BATCH)
    assert differing(state(one), state(other)) == []
    assert not (tmp_path / "other" / "averages").exists()


def test_snapshots_are_evenly_spaced_and_end_with_the_run() -> None:
    assert [n for n in range(1, 25) if due(n * 4, 4, 96, 8)] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert [n for n in range(1, 6) if due(n * 4, 4, 20, 8)] == [1, 2, 3, 4, 5]


def test_what_cannot_be_is_refused(tmp_path: Path, seen: tuple[Path, list[dict[str, Tensor]]]) -> None:
    plain = tmp_path / "plain"
    trained(plain, 2 * BATCH)
    with pytest.raises(InputError, match=r"kept no averages on its way; train with --set 'training.averages"):
        averaged(plain, 0.1)
    with pytest.raises(InputError, match=r"above 0 and at most 0\.25"):
        averaged(seen[0], 0.5)
    for images in (1, STEPS * BATCH + 1):
        with pytest.raises(InputError, match=f"{images} images are not within the run's snapshots, 48 to 384"):
            averaged(seen[0], 0.1, images)
    broken = Path(shutil.copytree(seen[0], tmp_path / "broken"))
    next((broken / "averages" / f"{48:012d}").glob("*.safetensors")).write_bytes(b"")
    with pytest.raises(DamagedFile, match="average"):
        averaged(broken, 0.1)
    for lengths in ("[0.3]", "[0.1, 0.1]", "[0]"):
        with pytest.raises(RecipeError, match=r"training\.averages"):
            opened(tmp_path / "new", 2 * BATCH, (f"training.averages={lengths}",))
