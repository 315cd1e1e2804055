"""A run folder: whose it is, what is refused, and what stays when training fails."""

import json
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import BATCH, differing, images_on_disk, metrics, opened, recipe, state, stepped, trained

import carrara
from carrara.errors import InputError, NonFinite
from carrara.training import run as run_module
from carrara.training.budget import Asked
from carrara.training.computing import Computing, candidates
from carrara.training.run import Run, first_difference


def test_a_finished_run_has_its_parts_and_its_model(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", images=40)
    assert run.finished and run.learner.images == 48, "whole batches"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"recipe.yaml", "run.json", "metrics.jsonl", "checkpoints", "samples", "model"}
    model = carrara.load(tmp_path / "run")
    assert model.facts["training_images_seen"] == 48 and model.facts["data"] == "digits"
    named = dict(model.denoiser.named_parameters())
    assert differing({key: p.detach() for key, p in named.items()}, run.learner.average["denoiser"]) == []
    assert metrics(tmp_path / "run")[-1].keys() == {"images", "heldout_loss", "heldout_loss_ema"}
    heldout = run.figures["heldout_loss"]
    assert run.trainable.heldout() == {"heldout_loss": heldout}, "always the same pictures, times and noise"


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    trained(tmp_path, images=32)
    weights = (tmp_path / "model" / "network.safetensors").read_bytes()
    assert list(opened(tmp_path, images=32).train()) == []
    assert (tmp_path / "model" / "network.safetensors").read_bytes() == weights


@pytest.mark.parametrize("previews", [0, 1, 3, 5, 100])
def test_previews_are_even_and_the_last_at_the_end(tmp_path: Path, previews: int) -> None:
    trained(tmp_path, images=5 * BATCH, changes=[f"training.previews={previews}", "training.checkpoint_s=3600"])
    lines = [line["images"] // BATCH for line in metrics(tmp_path) if "heldout_loss" in line]
    assert lines == {0: [], 1: [5], 3: [2, 4, 5], 5: [1, 2, 3, 4, 5], 100: [1, 2, 3, 4, 5]}[previews]


@pytest.mark.parametrize("kind", ["logit_normal", "importance"])
def test_nan_stops_the_run_with_the_last_good_state_saved(tmp_path: Path, kind: str) -> None:
    changes = [
        "network.kind=small:Faulty",
        "network.fail_at=4",
        f"train_times.kind={kind}",
        "training.checkpoint_s=3600",
    ]
    run = opened(tmp_path, changes=changes)
    good = {}
    with pytest.raises(NonFinite, match=rf"^the loss became NaN or infinite in the step after {3 * BATCH} images"):
        for _ in run.train():
            good = state(run)
    assert differing(state(run), good) == []
    assert all(bool(torch.isfinite(value).all()) for value in good.values())
    again = opened(tmp_path, changes=changes)
    assert again.learner.images == images_on_disk(tmp_path) == 3 * BATCH
    assert differing(state(again), good) == []
    with closing(again.train()) as progress:
        assert next(progress).record.images == 4 * BATCH


def test_a_folder_in_use_is_refused_until_it_is_free(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    with closing(first.train()) as progress:
        next(progress)
        with pytest.raises(InputError, match="in use by another carrara process"):
            next(second.train())
        next(progress)
    with closing(opened(tmp_path).train()) as progress:
        assert next(progress).record.images == 3 * BATCH


def test_another_recipe_is_refused_by_its_first_difference(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(
        InputError, match=r"another recipe \(training\.lr was 0\.001 and is now 0\.5\); choose another"
    ):
        opened(tmp_path, changes=["training.lr=0.5", "training.clip=2"])
    with pytest.raises(InputError, match=r"network\.kind was 'unet' and is now 'small:Normed'"):
        opened(tmp_path, changes=["network.kind=small:Normed"])
    with pytest.raises(InputError, match=r"seed was 3 and is now 4"):
        opened(tmp_path, changes=["seed=4"])
    opened(tmp_path, changes=["training.lr=1e-3"])


def test_differences_are_found_at_any_depth() -> None:
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1}}) == ""
    assert first_difference({"a": {"b": 1}}, {"a": {}}) == "a.b was 1 and is now None"
    assert first_difference({"a": {}}, {"a": {"c": [1]}}) == "a.c was None and is now [1]"


def test_another_length_is_refused_with_the_old_one(tmp_path: Path) -> None:
    opened(tmp_path, images=1_234_567)
    with pytest.raises(InputError, match=r"was begun with --images 1234567; the same goes on with it"):
        opened(tmp_path, images=1_234_568)
    with pytest.raises(InputError, match=r"was begun with --images 1234567"):
        Run(recipe(), tmp_path, Asked(minutes=1))


def test_changed_data_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**facts, "data": "0" * 64}))
    with pytest.raises(InputError, match="the data has changed since the run"):
        opened(tmp_path)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match=r"is not a run \(it holds thesis\.tex\)"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write into .*file"):
        opened(tmp_path / "file")


@pytest.mark.parametrize("left", [".recipe.yaml.1234.staging", ".lock", "recipe.yaml"])
def test_a_run_killed_while_it_began_begins_again(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text(recipe().to_yaml())
    assert opened(tmp_path).learner.images == 0
    assert (tmp_path / "run.json").is_file()


AUTO = ["training.precision=auto", "training.kernels=auto"]


def test_what_is_computed_in_is_chosen_once_and_kept(tmp_path: Path) -> None:
    run = opened(tmp_path, changes=AUTO)
    chosen = run.trainable.computing
    assert chosen in candidates(run.settings)
    assert run.learner.images == 0 and all(p.grad is None for p in run.model.denoiser.parameters())
    facts = json.loads((tmp_path / "run.json").read_text())
    for other in (each for each in candidates(run.settings) if each != chosen):
        (tmp_path / "run.json").write_text(json.dumps({**facts, **other.as_dict()}))
        assert opened(tmp_path, changes=AUTO).trainable.computing == other


def test_a_run_of_before_there_were_kernels_goes_on_with_torchs(tmp_path: Path) -> None:
    opened(tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    del facts["kernels"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    assert opened(tmp_path).trainable.computing == Computing(facts["precision"], "torch")


def test_measuring_what_to_compute_in_teaches_nothing(tmp_path: Path) -> None:
    changes = ["train_times.kind=importance"]
    plain = state(opened(tmp_path / "plain", changes=changes))
    auto = state(opened(tmp_path / "auto", changes=[*changes, *AUTO]))
    assert differing(plain, auto) == []


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may be too long where gradients are still finite."""
    run = opened(tmp_path)
    take = run.learner._take

    def too_far(lr: float) -> None:
        take(lr)
        if run.learner.images == 2 * BATCH:
            next(run.model.denoiser.parameters()).data.fill_(torch.inf)  # type: ignore[attr-defined]

    monkeypatch.setattr(run.learner, "_take", too_far)
    with pytest.raises(
        NonFinite, match=rf"^network\.\S+ is NaN or infinite after {3 * BATCH} images\. Begin another run"
    ):
        stepped(run)
    assert images_on_disk(tmp_path) == 2 * BATCH
    assert trained(tmp_path).finished, "it goes on from there"


def test_what_to_do_is_what_can_be_done(tmp_path: Path) -> None:
    """A run has one recipe; and in float32 it is trained already."""
    for precision, said in (
        ("float32", "training.lr, here 0.001.$"),
        ("bf16", "or with training.precision=float32.$"),
    ):
        changes = ["network.kind=small:Faulty", "network.fail_at=1", f"training.precision={precision}"]
        with pytest.raises(NonFinite, match=said):
            trained(tmp_path / precision, changes=changes)


def test_no_more_than_half_of_what_was_trained_is_unsaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more than `checkpoint_s` seconds of it; the first checkpoint comes after a twelfth of those."""
    run = opened(tmp_path, changes=["training.checkpoint_s=60"])
    begun = saved = 1000.0
    kept = []
    for now in range(1000, 1400):
        monkeypatch.setattr(run_module.time, "monotonic", lambda now=now: float(now))
        if run._unsaved_too_long(begun, saved):
            kept.append(now - 1000)
            saved = float(now)
    assert kept[:5] == [6, 13, 27, 55, 111] and max(b - a for a, b in pairwise(kept)) == 61


def test_a_disk_without_room_for_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(InputError, match=r"has 0 MB left, and this run's checkpoints take some \d+ MB; free some"):
        opened(tmp_path / "run")
    monkeypatch.undo()
    assert trained(tmp_path / "run").finished
    monkeypatch.setattr(run_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert opened(tmp_path / "run").finished, "one that was begun is not looked at again"
