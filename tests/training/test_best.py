"""The model of a run can be what said most of held-out data on the way, in place of what came last."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small import BATCH, differing, files_of, metrics, opened, stepped, trained
from torch import Tensor

import carrara
from carrara.errors import RecipeError
from carrara.training.run import BEST, MODEL, Run
from carrara.training.trainable import Diffusion

EVENTS = 5
CHANGES = [f"training.previews={EVENTS}", "training.saved=best"]


@pytest.fixture
def least_in_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out losses that fall to the second of five previews and rise after it, averaged or not."""
    learnt: dict[int, float] = {}

    def heldout(self: Diffusion) -> dict[str, float]:
        # What the run has learnt so far is seen by its weights alone.
        seen = float(sum(p.detach().double().sum() for p in self.model.denoiser.parameters()))
        learnt.setdefault(hash(seen), float(len(learnt) // 2))
        return {"heldout_loss": abs(learnt[hash(seen)] - 1.0)}

    monkeypatch.setattr(Diffusion, "heldout", heldout)


def average(run: Run) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in run.learner.average["denoiser"].items()}


def weights(folder: Path) -> dict[str, Tensor]:
    return {key: value.detach() for key, value in carrara.load(folder).denoiser.named_parameters()}


def averages(folder: Path) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """(images, averaged weights) after each preview of a run of ten steps."""
    run = opened(folder, changes=CHANGES)
    for _ in run.train():
        if run.learner.images % (2 * BATCH) == 0:
            yield run.learner.images, average(run)


@pytest.mark.usefixtures("least_in_the_second")
def test_the_best_is_saved_with_what_was_true_of_it(tmp_path: Path) -> None:
    found = dict(averages(tmp_path))
    assert list(found) == [2 * BATCH * (k + 1) for k in range(EVENTS)]
    assert differing(weights(tmp_path), found[4 * BATCH]) == []
    assert "enter.weight" in {key.removeprefix("network.") for key in differing(found[4 * BATCH], found[10 * BATCH])}
    facts = carrara.load(tmp_path).facts
    assert (facts["training_images_seen"], facts["heldout_loss_ema"]) == (4 * BATCH, 0.0)
    assert [line["heldout_loss_ema"] for line in metrics(tmp_path) if "heldout_loss" in line] == [1, 0, 1, 2, 3]


@pytest.mark.usefixtures("least_in_the_second")
def test_the_last_is_saved_unless_said_otherwise(tmp_path: Path) -> None:
    run = trained(tmp_path, changes=CHANGES[:1])
    assert differing(weights(tmp_path), average(run)) == []
    assert run.best["images"] == 4 * BATCH, "known all the same"
    assert not (tmp_path / BEST).exists()
    assert carrara.load(tmp_path).facts["training_images_seen"] == 10 * BATCH


def test_a_last_that_is_best_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter(range(100, 0, -1))
    monkeypatch.setattr(Diffusion, "heldout", lambda self: {"heldout_loss": float(next(left))})
    run = trained(tmp_path, changes=CHANGES)
    assert run.best["images"] == 10 * BATCH
    assert differing(weights(tmp_path), average(run)) == []


def test_nan_is_never_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = float("nan")
    for number, (losses, best) in enumerate(
        {(3.0, *[nan] * 4): 1, (nan, nan, 3.0, nan, 4.0): 3, (nan,) * 5: None}.items()
    ):
        told = iter([loss for loss in losses for _ in range(2)])
        monkeypatch.setattr(Diffusion, "heldout", lambda self, told=told: {"heldout_loss": next(told)})
        run = trained(tmp_path / str(number), changes=CHANGES)
        assert run.best.get("images") == (None if best is None else 2 * BATCH * best)
        seen = carrara.load(tmp_path / str(number)).facts["training_images_seen"]
        assert seen == (10 if best is None else 2 * best) * BATCH


def test_a_run_cut_anywhere_saves_the_same_best(tmp_path: Path) -> None:
    """By held-out losses as they are."""
    rising = [*CHANGES, "training.lr=0.1", "training.cooldown=0"]
    whole = trained(tmp_path / "whole", changes=rising)
    for steps in (1, 2, 3, 3):
        trained(tmp_path / "split", changes=rising, steps=steps)
    split = trained(tmp_path / "split", changes=rising)
    assert whole.best["images"] < 10 * BATCH, "too long a step is no longer best at the end"
    assert split.best == whole.best
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")


def test_a_best_that_was_kept_after_the_last_checkpoint_is_kept_again(tmp_path: Path) -> None:
    changes = [*CHANGES, "training.lr=0.1", "training.cooldown=0", "training.checkpoint_s=3600"]
    whole = trained(tmp_path / "whole", changes=changes)
    stepped(opened(tmp_path / "split", changes=changes), 7)
    assert (tmp_path / "split" / BEST).is_dir() and opened(tmp_path / "split", changes=changes).best == {}
    assert trained(tmp_path / "split", changes=changes).best == whole.best
    assert torch.equal(*(weights(tmp_path / name)["network.enter.weight"] for name in ("split", "whole")))
    assert (tmp_path / "split" / MODEL / "README.md").is_file()


def test_the_best_of_none_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"^training\.previews is 0; it must be at least 1 where training\.saved is best"
    ):
        opened(Path("unused"), changes=["training.saved=best", "training.previews=0"])
