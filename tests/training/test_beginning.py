"""A run that begins with another model's weights: which ones, what must be the same, and that it goes on without them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small import BATCH, RUNS, differing, files_of, metrics, opened, state, trained
from torch import Tensor

import carrara
from carrara.errors import InputError
from carrara.model import build
from carrara.training.beginning import CLASSES, begin


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "run"
    trained(folder, images=80, changes=["seed=9"])
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    return {key: value.detach() for key, value in carrara.load(folder).denoiser.network.state_dict().items()}


def test_it_begins_with_the_averaged_weights(base: Path, tmp_path: Path) -> None:
    run = opened(tmp_path, changes=[f"training.start={base}"])
    network = run.model.denoiser.network  # type: ignore[attr-defined]
    assert differing(weights(base), network.state_dict()) == []
    average = {key.removeprefix("network."): value for key, value in run.learner.average["denoiser"].items()}
    assert all(torch.equal(value, weights(base)[key]) for key, value in average.items())
    assert run.trainable.heldout()["heldout_loss"] < opened(tmp_path / "new").trainable.heldout()["heldout_loss"]


def test_a_run_in_pieces_is_the_whole_run_and_needs_no_beginning_then(base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(base, mine)
    changes = [f"training.start={mine}"]
    whole = trained(tmp_path / "whole", changes=changes)
    trained(tmp_path / "split", changes=changes, steps=3)
    shutil.rmtree(mine)
    split = trained(tmp_path / "split", changes=changes)
    assert differing(state(split), state(whole)) == [] and metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")
    assert carrara.load(tmp_path / "split").facts["began_with"] == whole.facts["start"]
    plain = trained(tmp_path / "plain")
    assert "weight network.enter.weight" in differing(state(whole), state(plain))
    assert "began_with" not in carrara.load(tmp_path / "plain").facts


def test_other_weights_than_it_began_with_are_refused(base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(base, mine)
    opened(tmp_path / "run", changes=[f"training.start={mine}"])
    shutil.rmtree(mine)
    with pytest.raises(InputError, match="neither a model folder"):
        opened(tmp_path / "run", changes=[f"training.start={mine}"])
    trained(mine, images=2 * BATCH)
    with pytest.raises(
        InputError, match=r"has other weights than when the run in .* began with them; put those back"
    ):
        opened(tmp_path / "run", changes=[f"training.start={mine}"])


def test_other_classes_begin_anew(base: Path) -> None:
    model = build(RUNS.recipe(), (1, 8, 8), ("cat", "dog"))
    own = model.denoiser.network.state_dict()[CLASSES].clone()
    begin(model, RUNS.recipe().sections, str(base))
    found = model.denoiser.network.state_dict()
    assert torch.equal(found[CLASSES], own) and found[CLASSES].shape[0] == 3
    assert all(torch.equal(value, weights(base)[key]) for key, value in found.items() if key != CLASSES)
    renamed = build(RUNS.recipe(), (1, 8, 8), tuple("abcdefghij"))
    own = renamed.denoiser.network.state_dict()[CLASSES].clone()
    begin(renamed, RUNS.recipe().sections, str(base))
    assert torch.equal(renamed.denoiser.network.state_dict()[CLASSES], own), "as many, and others"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["network.width=16"],
            r"is of another network than this recipe's: .*enter\.weight has the shape .*; .*leave",
        ),
        (["network.depth=2"], "is of another network than this recipe's: it lacks tensor .*; it lacks tensor "),
        (
            ["prediction.kind=x0"],
            r"was trained with prediction\.kind=velocity, and this recipe has x0: its weights mean something",
        ),
        (["training.start=nowhere"], "nowhere is neither a model folder"),
    ],
)
def test_what_does_not_fit_is_refused(base: Path, tmp_path: Path, changes: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(tmp_path / "run", changes=[f"training.start={base}", *changes])
    assert not (tmp_path / "run" / "run.json").exists()


def test_what_is_no_diffusion_model_has_no_such_beginning(base: Path, tmp_path: Path) -> None:
    from vq_words import opened as words

    with pytest.raises(InputError, match=r"training\.start gives a diffusion model its first weights"):
        words(tmp_path, changes=[f"training.start={base}"])


def test_at_the_command_line(base: Path, tmp_path: Path, capsys: Any) -> None:
    from carrara.cli import main

    words = ["train", "digits", "--from", str(base), "--images", "32", "--out", str(tmp_path / "run")]
    changes = [
        "network.kind=unet",
        "network.width=8",
        "network.depth=1",
        "network.dropout=0.1",
        "training.previews=1",
    ]
    words += [word for change in changes for word in ("--set", change)]
    assert main(words) == 0 == main(words)
    assert f"begins with {base}" in capsys.readouterr().out
    assert main([*words[:2], *words[4:]]) == 2, "a run of another recipe"
