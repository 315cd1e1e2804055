"""A split run equals the whole run, bit for bit."""

from contextlib import closing
from pathlib import Path

import pytest
from small import BATCH, differing, files_of, images_on_disk, metrics, opened, state, trained

from carrara import files
from carrara.training import run as run_module

KINDS = {
    "float32": [],
    "bf16": ["training.precision=bf16"],
    "torch": ["training.kernels=torch"],
    "importance": ["train_times.kind=importance", "training.spread=independent"],
    "buffers": ["network.kind=small:Normed", "training.weight_decay=0.1", "training.cooldown=1"],
}


@pytest.fixture(autouse=True)
def lines_of_three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that gather over three steps, so that the cuts fall into the midst of a line's; no waiting for the disk."""
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)


def assert_same(split: Path, whole: Path, changes: list[str]) -> None:
    one, other = opened(split, changes=changes), opened(whole, changes=changes)
    assert one.finished
    assert differing(state(one), state(other)) == []
    assert metrics(split) == metrics(whole)
    assert files_of(split) == files_of(whole)
    assert (one.figures, one.budget) == (other.figures, other.budget)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_cut_after_any_steps_equals_the_whole_run(tmp_path: Path, kind: str) -> None:
    """Cut after 1, 2, 5 (where a preview is taken) and 9 of its 10 steps."""
    trained(tmp_path / "whole", changes=KINDS[kind])
    for steps in (1, 1, 3, 4):
        trained(tmp_path / "split", changes=KINDS[kind], steps=steps)
    assert images_on_disk(tmp_path / "split") == 9 * BATCH
    trained(tmp_path / "split", changes=KINDS[kind])
    assert_same(tmp_path / "split", tmp_path / "whole", KINDS[kind])


def test_what_was_done_after_the_last_checkpoint_is_done_again(tmp_path: Path) -> None:
    changes = ["training.checkpoint_s=3600"]
    trained(tmp_path / "whole", changes=changes)
    run = opened(tmp_path / "split", changes=changes)
    with closing(run.train()) as progress:
        for _ in range(4):
            next(progress)
        run.save()
        for _ in range(5):
            next(progress)
    assert images_on_disk(tmp_path / "split") == 4 * BATCH
    assert metrics(tmp_path / "split")[-1]["images"] == 9 * BATCH
    trained(tmp_path / "split", changes=changes)
    assert_same(tmp_path / "split", tmp_path / "whole", changes)


def test_a_run_cut_before_its_model_was_written_writes_it(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    trained(tmp_path / "split", steps=10)
    assert not (tmp_path / "split" / "model").exists()
    trained(tmp_path / "split")
    assert_same(tmp_path / "split", tmp_path / "whole", [])


def test_runs_of_other_seeds_and_dropouts_differ(tmp_path: Path) -> None:
    """What the equalities above compare does depend on the run."""
    one = state(trained(tmp_path / "one", 48))
    for name, change in (
        ("seed", "seed=4"),
        ("dropout", "network.dropout=0"),
        ("precision", "training.precision=bf16"),
    ):
        other = state(trained(tmp_path / name, 48, [change]))
        assert "weight network.enter.weight" in differing(one, other)


def test_time_spent_adds_up_over_the_parts(tmp_path: Path) -> None:
    first = trained(tmp_path / "run", steps=2)
    second = opened(tmp_path / "run")
    assert 0 < second.seconds <= first.seconds
    trained(tmp_path / "run", steps=2)
    assert opened(tmp_path / "run").seconds > second.seconds
