"""An autoencoder of latents is trained by the one loop, and what comes of it has latents of mean 0 and variance 1."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from kl_latents import opened, recipe, trained
from small import BATCH, differing, files_of, metrics, state
from torch import Tensor

import carrara
from carrara import files
from carrara.codecs.pixels import Pixels
from carrara.errors import DamagedFile, InputError, RecipeError
from carrara.evaluation.fidelity import mse
from carrara.kl.bottleneck import divergence
from carrara.kl.model import KlModel, load
from carrara.training import adversarial
from carrara.training import run as run_module
from carrara.training.autoencoding import AUTOENCODER, CRITIC
from carrara.training.kl import Variational
from carrara.training.run import MODEL

IMAGES = 150 * BATCH
TAUGHT = ["training.lr=0.01", "training.ema_images=400", "training.checkpoint_s=3600"]
CRITICAL = ["trainable.adversarial=0.5", "trainable.adversarial_after_images=40"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, not to be changed, that has learnt a good deal."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trained(folder, IMAGES, TAUGHT)
    return folder


def learnt(folder: Path, *changes: str) -> Variational:
    found = opened(folder, changes=changes).trainable
    assert isinstance(found, Variational)
    return found


def media(folder: Path, side: str = "heldout", count: int | None = 24) -> Tensor:
    split = getattr(opened(folder, IMAGES, TAUGHT).dataset, side)
    return torch.from_numpy(split.media[:count].copy())


def test_pictures_it_has_never_seen_come_back_more_alike_than_their_mean(finished: Path) -> None:
    kl, pictures = load(finished), media(finished)
    latents = kl.encode(pictures)
    again = kl.decode(latents)
    assert latents.shape == (24, 4, 2, 2) and latents.dtype == torch.float32
    assert again.shape == pictures.shape and again.dtype == torch.uint8
    assert mse(pictures, again) < 0.5 * float((pictures.double() / 255).var(0).mean())
    # The same but for the rounding of scaling and back.
    assert float((again.double() - kl.again(pictures).double()).abs().max()) <= 1


def test_latents_have_mean_0_and_variance_1_over_the_training_pictures(finished: Path) -> None:
    latents = load(finished).encode(media(finished, "train", None)).double()
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.var((0, 2, 3), correction=0), torch.ones(4).double(), rtol=0, atol=1e-5)


def test_held_out_latents_are_as_wide(finished: Path) -> None:
    latents = load(finished).encode(media(finished, count=None)).double()
    assert float(latents.mean((0, 2, 3)).abs().max()) < 0.2
    assert float((latents.std((0, 2, 3)) - 1).abs().max()) < 0.2


def test_what_it_has_learnt_is_loaded_as_it_was(finished: Path) -> None:
    kl, run, pictures = load(finished), opened(finished, IMAGES, TAUGHT), media(finished)
    with run.learner.averaged():
        assert torch.equal(run.trainable.model.means(pictures), kl.means(pictures))
    assert kl.shape == (1, 8, 8) and kl.latents == (4, 2, 2) and kl.factor == 4 and not kl.network.training
    assert kl.facts["latents"] == "4×2×2" and "psnr_ema" in kl.facts and "ssim_ema" in kl.facts
    assert float((kl.scaling.scale - 1).abs().max()) > 0.01
    assert "codec: {kind: kl" in (finished / MODEL / "README.md").read_text()


def test_other_weights_or_another_scaling_are_another_autoencoder(finished: Path) -> None:
    kl, again = load(finished), load(finished)
    assert kl.sha256 == again.sha256
    again.scaling.shift[0] += 1
    assert kl.sha256 != again.sha256


@pytest.mark.parametrize("changes", [[], CRITICAL, ["training.precision=bf16"]])
def test_a_split_run_equals_the_whole_run(
    tmp_path: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)
    monkeypatch.setattr(adversarial, "AHEAD", 2 * BATCH)
    trained(tmp_path / "whole", changes=changes)
    for steps in (1, 2, 4):
        trained(tmp_path / "split", changes=changes, steps=steps)
    trained(tmp_path / "split", changes=changes)
    one, other = opened(tmp_path / "split", changes=changes), opened(tmp_path / "whole", changes=changes)
    assert one.finished and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")


def test_an_image_s_loss_does_not_depend_on_those_beside_it(tmp_path: Path) -> None:
    """Nor does what its latents are drawn with."""
    found = learnt(tmp_path, "trainable.kl=0.1")
    whole = found.loss(AUTOENCODER, 32, 16).detach()
    parts = torch.cat([found.loss(AUTOENCODER, 32, 5).detach(), found.loss(AUTOENCODER, 37, 11).detach()])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert whole.shape == (16,) and len(set(whole.tolist())) == 16


def test_the_loss_is_the_error_of_a_draw_and_the_weighed_nats_of_a_number(tmp_path: Path) -> None:
    """Two losses with two weights differ by the divergence; without it, latents that are drawn further away miss more."""
    one, other = learnt(tmp_path / "one", "trainable.kl=0"), learnt(tmp_path / "other", "trainable.kl=2")
    x = one._images(0, 16)
    mean, logvar = one.model.network.middle(x)
    added = (other.loss(AUTOENCODER, 0, 16) - one.loss(AUTOENCODER, 0, 16)).detach()
    torch.testing.assert_close(added, 2 * divergence(mean, logvar).detach() / 64, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        drawn = one.through(x, 0)[0]
    again = one.model.network.back(mean)
    assert not torch.equal(drawn, again.detach()) and bool(torch.isfinite(drawn).all())


def test_a_weight_of_the_divergence_makes_latents_cheap(tmp_path: Path) -> None:
    """With a large one nothing is left of pictures but their mean: every latent is N(0, 1), and none is blown up by its scaling."""
    figures = {}
    for weight in ("1e-6", "10"):
        run = trained(tmp_path / weight, 60 * BATCH, ["training.lr=0.01", f"trainable.kl={weight}", *TAUGHT[2:]])
        figures[weight] = run.figures
    assert figures["10"]["heldout_kl"] < 0.2 < 5 < figures["1e-6"]["heldout_kl"]
    assert figures["10"]["deviation"] == pytest.approx(1, abs=0.1) and figures["1e-6"]["deviation"] < 0.7
    assert figures["10"]["psnr"] < figures["1e-6"]["psnr"] - 1
    assert all(map(math.isfinite, load(tmp_path / "10").scaling.scale.tolist()))


def test_heldout_figures_are_those_of_the_weights_alone(tmp_path: Path) -> None:
    found = learnt(tmp_path)
    before = found.heldout()
    found.loss(AUTOENCODER, 0, 16)
    assert found.heldout() == before and found.model.network.training
    assert before.keys() == {"heldout_loss", "heldout_error", "heldout_kl", "deviation", "mse", "psnr", "ssim"}
    assert before["heldout_loss"] == pytest.approx(before["heldout_error"] + 1e-6 * before["heldout_kl"] / 64)


def test_the_critic_is_shown_what_was_made_in_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept from the autoencoder's turn is what it would draw again."""
    monkeypatch.setattr(adversarial, "AHEAD", 2 * BATCH)
    found = learnt(tmp_path, *CRITICAL)
    again = found.loss(CRITIC, 48, BATCH).detach()
    found.loss(AUTOENCODER, 48, BATCH)
    torch.testing.assert_close(found.loss(CRITIC, 48, BATCH).detach(), again)


def test_its_recipe_has_only_what_it_is_made_from() -> None:
    assert set(recipe().sections) == {"data", "trainable", "training"}
    with pytest.raises(RecipeError, match=r"section 'network', of which a trainable of kind 'kl' makes no use"):
        recipe("network.kind=unet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("trainable.channels=0", r"trainable\.channels is 0; it must be at least 1 number a place"),
        ("trainable.down=0", r"trainable\.down is 0; it must be at least 1 halving"),
        (
            "trainable.down=4",
            r"pictures of 8×8 pixels .* a side must be a multiple of 16, such as 16\. Set data\.size",
        ),
        ("trainable.kl=-1", r"trainable\.kl is -1.*; it must be 0 or more, and finite"),
        ("trainable.perceptual=-0.5", r"trainable\.perceptual is -0\.5; it must be 0 or more, and finite"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(tmp_path, changes=[change])


def test_a_model_of_an_autoencoder_is_no_diffusion_model(finished: Path) -> None:
    with pytest.raises(InputError, match=r"holds an autoencoder of latents, .* codec: \{kind: kl, model: "):
        carrara.load(finished)


def test_other_pictures_are_refused(finished: Path) -> None:
    kl = load(finished)
    with pytest.raises(InputError, match=r"knows pictures \(B, 1, H, W\), of 1 channel \(grey\)"):
        kl.encode(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"10×8 pixels do not divide .* a multiple of 4, such as 8 or 12"):
        kl.encode(torch.zeros(2, 1, 10, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"8×3 pixels do not divide .* a multiple of 4, such as 4\. "):
        kl.encode(torch.zeros(2, 1, 8, 3, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"must be uint8"):
        kl.encode(Pixels().encode(media(finished)))
    with pytest.raises(InputError, match=r"are \(B, 4, h, w\)"):
        kl.decode(torch.zeros(2, 3, 2, 2))


def test_damage_is_named(finished: Path, tmp_path: Path) -> None:
    kl = load(finished)
    assert isinstance(kl, KlModel)
    kl.save(tmp_path / "copy")
    assert load(tmp_path / "copy").sha256 == kl.sha256
    weights = tmp_path / "copy" / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedFile, match=r"network\.safetensors is damaged"):
        load(tmp_path / "copy")
