"""A batch in parts is the batch; blocks that are computed again are the blocks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small import BATCH, Line, differing, learner, opened, recipe, state, trained
from torch import Tensor

from carrara.errors import InputError, RecipeError
from carrara.training.learner import Learner
from carrara.training.run import Run
from carrara.training.settings import Training
from carrara.training.world import World

STILL = ["network.dropout=0", "training.clip=1000", "train_times.kind=importance", "training.checkpoint_s=3600"]


def exact(folder: Path, *changes: str) -> Run:
    """A run in float64, after three steps."""
    run = opened(folder, changes=[*STILL, *changes])
    encode = run.model.codec.encode
    object.__setattr__(run.model.codec, "encode", lambda media: encode(media).double())
    run.model.denoiser.double()
    run.learner = Learner(run.trainable, run.settings, run.recipe.seed)
    for _ in range(3):
        run.learner.step(None)
    return run


@pytest.mark.parametrize("spread", ["stratified", "independent"])
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path: Path, kind: str, spread: str) -> None:
    """Weights, average, moments and what the times have learnt."""
    width = {"unet": 8, "dit": 64}[kind]
    changes = [f"network.kind={kind}", f"network.width={width}", "network.depth=1", f"training.spread={spread}"]
    whole = state(exact(tmp_path / "whole", *changes))
    parts = state(exact(tmp_path / "parts", *changes, "training.accumulate=4"))
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-6, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")
    assert len(differing(parts, whole)) > 10, "rounding shows that the parts were computed apart"


def test_each_image_is_seen_once_and_the_loss_is_the_mean_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def loss(line: Line, numbers: Tensor) -> Tensor:
        seen.append(numbers.tolist())
        return numbers + 0 * line.w + 0 * line.b.sum()

    player = learner(loss, accumulate=2)
    assert player.step(None).loss == pytest.approx(1.5)
    player.world = World(1, 2)
    monkeypatch.setattr(World, "average_", lambda self, tensors: None)
    player.step(None)
    assert seen == [[0, 1], [2, 3], [6], [7]]


def test_dropout_differs_from_part_to_part() -> None:
    drawn: list[float] = []

    def loss(line: Line, numbers: Tensor) -> Tensor:
        drawn.append(torch.rand(()).item())
        return (0 * line.w + 0 * line.b.sum()).expand(len(numbers))

    player = learner(loss, accumulate=2)
    for _ in range(3):
        player.step(None)
    assert len(set(drawn)) == 6


@pytest.mark.parametrize("changes", [["training.accumulate=4"], ["training.checkpointing=true"]], ids=str)
def test_a_split_run_equals_the_whole_one(tmp_path: Path, changes: list[str]) -> None:
    changes = ["train_times.kind=importance", *changes]
    whole = state(trained(tmp_path / "whole", 64, changes))
    trained(tmp_path / "split", 64, changes, steps=1)
    trained(tmp_path / "split", 64, changes, steps=2)
    assert differing(state(trained(tmp_path / "split", 64, changes)), whole) == []


def test_what_is_computed_again_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """With dropout, which is drawn alike both times."""
    plain = trained(tmp_path / "plain", 48)
    again = trained(tmp_path / "again", 48, ["training.checkpointing=true"])
    assert recipe().sections["network"]["dropout"] > 0
    assert differing(state(again), state(plain)) == []
    assert again.model.denoiser.network.middle.recompute and not plain.model.denoiser.network.middle.recompute


def test_a_network_whose_blocks_cannot_be_computed_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training\.checkpointing is true, and GaussianDenoiser has no part"):
        opened(tmp_path, changes=["network.kind=small:Normed", "training.checkpointing=true"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"accumulate": 0}, r"training\.accumulate is 0; it must be at least 1"),
        ({"batch": 16, "accumulate": 3}, r"training\.accumulate is 3; .* divides training\.batch, 16"),
    ],
)
def test_parts_that_do_not_make_a_batch_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        Training(**given)


def test_parts_that_do_not_make_a_process_s_share_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "told", lambda self, value: value)
    with pytest.raises(InputError, match=rf"batch {BATCH} cannot be shared by 2 processes, in 16 parts each"):
        opened(tmp_path, changes=["training.accumulate=16"], world=World(0, 2))
