"""An autoencoder is trained by the one loop, and its runs are runs like any other."""

from __future__ import annotations

import io
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import small
import torch
from PIL import Image
from rank_vq import AHEAD, CHANGES, IMAGES
from small import BATCH, differing, files_of, metrics, state
from torch import Tensor
from vq_words import opened, recipe, trained

import carrara
from carrara import files, tensors
from carrara.codecs.pixels import Pixels
from carrara.errors import DamagedFile, InputError, RecipeError
from carrara.training import adversarial
from carrara.training import run as run_module
from carrara.training.autoencoding import AUTOENCODER, off
from carrara.training.run import MODEL
from carrara.training.vq import Autoencoding
from carrara.vq.figures import fidelity, usage
from carrara.vq.model import VqModel, load

TAUGHT = ["training.lr=0.01", "training.ema_images=400", "training.checkpoint_s=3600", "trainable.down=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, not to be changed, that has learnt a good deal."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trained(folder, 150 * BATCH, TAUGHT)
    return folder


def learnt(folder: Path, *changes: str) -> Autoencoding:
    found = opened(folder, changes=changes).trainable
    assert isinstance(found, Autoencoding)
    return found


def media(folder: Path, count: int = 24) -> Tensor:
    return torch.from_numpy(opened(folder, 150 * BATCH, TAUGHT).dataset.heldout.media[:count].copy())


def test_pictures_it_has_never_seen_come_back_alike(finished: Path) -> None:
    """More alike than the mean of all pictures, whose error is the data's variance, by far."""
    vq, pictures = load(finished), media(finished)
    ids = vq.encode(pictures)
    again = vq.decode(ids)
    assert ids.shape == (24, 16) and ids.dtype == torch.int64 and int(ids.min()) >= 0 and int(ids.max()) < 64
    assert again.shape == pictures.shape and again.dtype == torch.uint8
    found = fidelity(pictures, again, ids, vq.vocab)
    assert found["mse"] < 0.35 * float((pictures.double() / 255).var(0).mean()) and found["perplexity"] > 8
    assert metrics(finished)[-1]["heldout_loss_ema"] < 0.5 * float((pictures / 127.5 - 1).abs().mean())


def test_what_it_has_learnt_is_loaded_as_it_was(finished: Path) -> None:
    vq, run, pictures = load(finished), opened(finished, 150 * BATCH, TAUGHT), media(finished)
    with run.learner.averaged():
        assert torch.equal(run.trainable.model.encode(pictures), vq.encode(pictures))
        assert run.trainable.model.sha256 == vq.sha256
    assert vq.shape == (1, 8, 8) and vq.grid == (4, 4) and vq.vocab == 64 and not vq.network.training
    assert vq.facts["vocabulary"] == 64 and vq.facts["ids_a_picture"] == 16 and "psnr_ema" in vq.facts
    assert "codec: {kind: vq" in (finished / MODEL / "README.md").read_text()


def test_a_word_that_is_not_known_is_grey_where_it_stands(finished: Path) -> None:
    vq, pictures = load(finished), media(finished, 2)
    ids = vq.encode(pictures)
    ids[0, 5], ids[1] = vq.vocab, vq.vocab
    again = vq.decode(ids)
    assert bool((again[0, 0, 2:4, 2:4] == 128).all()) and bool((again[1] == 128).all())
    assert int((again[0] == 128).sum()) < 8


def test_ids_do_not_depend_on_what_is_beside_them(finished: Path) -> None:
    vq, pictures = load(finished), media(finished)
    whole = vq.encode(pictures)
    assert torch.equal(torch.cat([vq.encode(pictures[:1]), vq.encode(pictures[1:])]), whole)
    assert float((vq.decode(whole[3:4]).float() - vq.decode(whole)[3:4].float()).abs().max()) <= 1


@pytest.mark.parametrize("change", ["trainable.error=absolute", "trainable.error=squared", "training.precision=bf16"])
def test_a_split_run_equals_the_whole_run(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)
    trained(tmp_path / "whole", changes=[change])
    for steps in (1, 1, 3, 4):
        trained(tmp_path / "split", changes=[change], steps=steps)
    trained(tmp_path / "split", changes=[change])
    one, other = opened(tmp_path / "split", changes=[change]), opened(tmp_path / "whole", changes=[change])
    assert one.finished and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A critic among them, which is listened to from the third step on."""
    monkeypatch.setattr(adversarial, "AHEAD", AHEAD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("rank_vq.py")), str(tmp_path / "run"), str(tmp_path)]
    ranks = [subprocess.Popen(words, env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    whole = state(trained(tmp_path / "alone", IMAGES, CHANGES))
    first, second = (tensors.load(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert differing(first, second) == []
    for key, value in whole.items():
        torch.testing.assert_close(
            first[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_an_image_s_loss_does_not_depend_on_those_beside_it(tmp_path: Path) -> None:
    found = learnt(tmp_path)
    whole = found.loss(AUTOENCODER, 32, 16).detach()
    parts = torch.cat([found.loss(AUTOENCODER, 32, 5).detach(), found.loss(AUTOENCODER, 37, 11).detach()])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert whole.shape == (16,) and len(set(whole.tolist())) == 16


def test_less_than_black_is_black() -> None:
    x = torch.tensor([-1.0, -1.0, 1.0, 1.0, 0.75, 0.5])
    y = torch.tensor([-1.5, -0.5, 1.5, 0.5, 1.5, -1.5])
    assert off(y, x).tolist() == [0, 0.5, 0, -0.5, 0.75, -2]


def test_pictures_are_mirrored_where_the_data_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = learnt(tmp_path), []
    monkeypatch.setattr(found, "_missed", lambda y, x: seen.append(x) or torch.zeros(len(x)))
    found.loss(AUTOENCODER, 0, 64)
    object.__setattr__(found.dataset, "flip", True)
    found.loss(AUTOENCODER, 0, 64)
    plain, drawn = seen
    same = [torch.equal(a, b) for a, b in zip(plain, drawn, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(plain, drawn, strict=True)]
    assert all(a or b for a, b in zip(same, turned, strict=True)) and 16 < sum(turned) < 48


def test_heldout_figures_are_those_of_the_weights_alone(tmp_path: Path) -> None:
    found = learnt(tmp_path)
    before = found.heldout()
    found.loss(AUTOENCODER, 0, 16)
    assert found.heldout() == before and found.model.network.training
    assert before.keys() == {"heldout_loss", "mse", "psnr", "ssim", "used", "perplexity"}
    assert before["psnr"] == pytest.approx(-10 * math.log10(before["mse"]))


def test_usage_by_hand() -> None:
    found = usage(torch.tensor([[0, 0, 3], [3, 1, 1]]), 8)
    assert found == {"used": 3 / 8, "perplexity": pytest.approx(3)}
    assert usage(torch.tensor([[0, 0, 0, 5]]), 8)["perplexity"] == pytest.approx(4 / 3**0.75)


def test_a_preview_shows_pictures_above_their_own(tmp_path: Path) -> None:
    found = learnt(tmp_path)
    sheet, again = found.preview(), found.preview()
    assert sheet == again and sheet.suffix == ".png"
    shown = Image.open(io.BytesIO(sheet.data))
    assert shown.height >= 6 * 64 and shown.width > 8 * 64


def test_its_recipe_has_only_what_it_is_made_from() -> None:
    assert set(recipe().sections) == {"data", "trainable", "training"}
    with pytest.raises(RecipeError, match=r"section 'network', of which a trainable of kind 'vq' makes no use"):
        recipe("network.kind=unet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("trainable.levels=[8, 1]", r"trainable\.levels is \[8, 1\]; it must be one or more numbers, each 2 or more"),
        ("trainable.levels=[]", r"trainable\.levels is \[\]; it must be one or more numbers"),
        ("trainable.down=0", r"trainable\.down is 0; it must be at least 1 halving"),
        ("trainable.width=9", r"trainable\.width is 9; it must be a multiple of 8"),
        ("trainable.error=cubed", r"trainable\.error is 'cubed'"),
        ("trainable.perceptual=-0.5", r"trainable\.perceptual is -0\.5; it must be 0 or more, and finite"),
        ("trainable.adversarial=.inf", r"trainable\.adversarial is inf; it must be 0 or more, and finite"),
        ("trainable.adversarial_after_images=-1", r"trainable\.adversarial_after_images is -1; it must be 0 or more"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(tmp_path, changes=[change])


def test_a_model_of_an_autoencoder_is_no_diffusion_model(finished: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds an autoencoder, .* makes none by itself; give .* codec: \{kind: vq, model: "
    ):
        carrara.load(finished)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 9, 8), (1, 8, 8)])
def test_other_pictures_are_refused(finished: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"knows pictures \(B, 1, 8, 8\)"):
        load(finished).encode(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(2, 15), (2, 4, 4)])
def test_another_number_of_ids_is_refused(finished: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"of the autoencoder words has 16"):
        load(finished).decode(torch.zeros(shape, dtype=torch.int64))


def test_damage_is_named(finished: Path, tmp_path: Path) -> None:
    vq = load(finished)
    assert isinstance(vq, VqModel)
    vq.save(tmp_path / "copy")
    weights = tmp_path / "copy" / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedFile, match=r"network\.safetensors is damaged"):
        load(tmp_path / "copy")


def test_a_run_does_not_go_on_with_another_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has learnt the words of one autoencoder knows no other's."""
    small.opened(tmp_path / "plain")  # Pixels are always the same.
    small.opened(tmp_path / "plain")
    monkeypatch.setattr(Pixels, "sha256", "a" * 64, raising=False)
    small.opened(tmp_path / "run")
    small.opened(tmp_path / "run")
    monkeypatch.setattr(Pixels, "sha256", "b" * 64, raising=False)
    with pytest.raises(InputError, match=r"codec .* is another than when the run in .* began; put its model back"):
        small.opened(tmp_path / "run")


def test_words_that_are_mistaken_are_each_image_s_own_and_of_that_share(finished: Path, tmp_path: Path) -> None:
    """Whatever batch an image is in; and the others are read as they are."""
    trainable = learnt(tmp_path / "run", *TAUGHT, "trainable.mistaken=0.25")
    x = Pixels().encode(media(finished, 24))
    wrong = trainable.wrong(x, 40)
    assert wrong is not None and wrong.shape == (24, 4, 4)
    for row in (0, 23):
        alone = trainable.wrong(x[row : row + 1], 40 + row)
        assert alone is not None and torch.equal(alone[0], wrong[row])
    assert not torch.equal(wrong[0], wrong[1])
    replaced = wrong >= 0
    assert 0.15 < float(replaced.double().mean()) < 0.35 and int(wrong.max()) < trainable.model.vocab
    network = trainable.model.network.eval()
    with torch.no_grad():
        ids = network.ids(x)
        codes = network.quantiser.codes(torch.where(replaced, wrong, ids))
        assert torch.equal(network(x, wrong), network.back(codes, x.shape[-2:]))
        assert not torch.equal(network(x, wrong), network(x))
        assert torch.equal(trainable.quietly(x)[0], network(x))


def test_an_autoencoder_that_met_wrong_words_bears_them_better(finished: Path, tmp_path: Path) -> None:
    """The same quarter of words is wrong for both: the one that has met such loses less of the pictures."""
    worse, pictures = [], media(finished, 64)
    trained(tmp_path / "met", 150 * BATCH, [*TAUGHT, "trainable.mistaken=0.25"])
    for vq in (load(finished), load(tmp_path / "met")):
        ids, draw = vq.encode(pictures), torch.Generator().manual_seed(0)
        replaced = torch.rand(ids.shape, generator=draw) < 0.25
        wrong = torch.where(replaced, torch.randint(0, vq.vocab, ids.shape, generator=draw), ids)
        worse.append(float((vq.decode(wrong).double() - pictures.double()).square().mean()))
    assert worse[1] < 0.9 * worse[0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_words_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(RecipeError, match=rf"trainable\.mistaken is {share}; it is a share of words"):
        trained(tmp_path / "run", BATCH, [*TAUGHT, f"trainable.mistaken={share}"])
