"""A CLIP is trained by the one loop, and its runs are runs like any other."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import BATCH, COLOURS, CONTENT, SHADES, opened, recipe, trained
from PIL import Image
from rank_clip import CHANGES, IMAGES
from small import differing, metrics, state
from torch import nn

import carrara
from carrara import files, tensors
from carrara.clip import losses
from carrara.clip.model import ClipModel, load
from carrara.data.batches import order
from carrara.errors import InputError, RecipeError
from carrara.rng import Streams
from carrara.training import run as run_module
from carrara.training.clip import CLIP, Contrastive, no_contrast
from carrara.training.run import MODEL

TAUGHT = ["training.ema_images=400", "training.lr=0.005", "training.checkpoint_s=3600"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, not to be changed, that has learnt what there is to learn."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARRARA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        trained(folder, 300 * BATCH, TAUGHT)
    return folder


def trainable(folder: Path, *changes: str) -> Contrastive:
    found = opened(folder, changes=changes).trainable
    assert isinstance(found, Contrastive)
    return found


def test_it_finds_colours_that_it_has_never_seen_together(finished: Path) -> None:
    """9 held-out pairs in three shades each, which have one caption: another's is beaten by 24 of 26 at best."""
    figures = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert figures["true_above_others_ema"] > 0.75 and figures["text_to_image_at_10_ema"] > 0.9
    assert figures["heldout_loss_ema"] < 0.5 * np.log(27)


def test_what_it_has_learnt_is_loaded_as_it_was(finished: Path) -> None:
    clip, run = load(finished), trained(finished, 300 * BATCH, TAUGHT)
    learnt = run.trainable
    assert isinstance(learnt, Contrastive)
    rows = [4, 0, 7]
    media = torch.from_numpy(learnt.dataset.heldout.media[rows].copy())
    with run.learner.averaged():
        expected = learnt.model.of_pictures(learnt.heldout_pairs.pictures[rows])
        hashed = learnt.model.sha256
    torch.testing.assert_close(clip.images(media), expected)
    assert clip.sha256 == hashed and clip.dim == 21 and clip.name == "pairs (pixels@4, words@1024)"
    assert clip.facts["data"] == "pairs" and clip.facts["heldout_pairs"] == 27
    assert "true_above_shuffled_ema" in clip.facts and clip.parameters == 48 * 16 + 1024 * 16 + 2 * 16 + 1


def test_sentences_say_which_colour_is_where(finished: Path) -> None:
    clip = load(finished)
    found = clip.texts(["red above blue", "blue", "", "RED, above: blue!"])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(found[0], found[3])
    picture = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    picture[:, 1, :10], picture[:, 2, 10:] = 255, 255
    words = [f"green above {name}" for name in COLOURS]
    assert words[int((clip.images(picture) @ clip.texts(words).T).argmax())] == "green above blue"
    assert clip.images(picture[:0]).shape == clip.texts([]).shape == (0, 21)


def test_a_model_of_a_clip_is_no_diffusion_model(finished: Path) -> None:
    with pytest.raises(InputError, match=r"holds a CLIP, which .* makes no pictures; give a diffusion model"):
        carrara.load(finished)


@pytest.mark.parametrize(
    "change",
    [
        "trainable.objective=contrastive",
        "trainable.objective=sigmoid",
        "training.precision=bf16",
        "trainable.ridge=0.01",
    ],
)
def test_a_split_run_equals_the_whole_run(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the features must be computed anew in the midst of it."""
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)
    changes = [change]
    trained(tmp_path / "whole", changes=changes)
    for steps in (1, 1, 3, 4):
        trained(tmp_path / "split", changes=changes, steps=steps)
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "another"))
    trained(tmp_path / "split", changes=changes)
    one, other = opened(tmp_path / "split", changes=changes), opened(tmp_path / "whole", changes=changes)
    assert one.finished and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    names = ["network.safetensors", *(f"../samples/{path.name}" for path in (tmp_path / "whole/samples").iterdir())]
    assert len(names) == 5
    for name in names:
        split, whole = ((tmp_path / side / MODEL / name).read_bytes() for side in ("split", "whole"))
        assert split == whole


@pytest.mark.parametrize("own", [["trainable.ridge=0"], ["trainable.ridge=0.01", "training.lr=2e-5"]])
def test_two_processes_equal_one(own: list[str], tmp_path: Path) -> None:
    """Though each computes half of a batch, and every pair is told from all others; at the rate that each start is trained with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        str(Path(__file__).with_name("rank_clip.py")),
        str(tmp_path / "run"),
        str(tmp_path),
        *own,
    ]
    ranks = [subprocess.Popen(words, env={**os.environ, **place, "RANK": str(rank)}) for rank in (0, 1)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    whole = state(trained(tmp_path / "alone", IMAGES, [*CHANGES, *own]))
    first, second = (tensors.load(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert differing(first, second) == []
    for key, value in whole.items():
        if "/exp_avg" not in key:
            torch.testing.assert_close(
                first[key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}"
            )
            continue
        # Of a tensor's length: where gradients cancel, a sum in another order differs by more than a share of the number.
        missed = (first[key].double() - value.double()).norm() / value.double().norm().clamp(min=1e-9)
        assert float(missed) < 1e-5, f"{key} differs by {float(missed):.1e} of its length"
    for line, expected in zip(metrics(tmp_path / "run"), metrics(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(expected, abs=1e-4)


def test_a_batch_s_losses_are_those_of_its_parts(tmp_path: Path) -> None:
    """Asked for a part of a batch in measuring, it is told from that part alone; in training the part is the batch."""
    clip = trainable(tmp_path)
    clip.heads.train()
    whole = clip.loss(CLIP, 2 * BATCH, BATCH).detach()
    clip.heads.eval()
    assert torch.equal(clip.loss(CLIP, 2 * BATCH, BATCH).detach(), whole)
    assert clip.loss(CLIP, 0, 5).shape == (5,) and bool(torch.isfinite(clip.loss(CLIP, 0, 5)).all())


def test_a_loss_is_the_mean_over_the_right_pairs_by_hand(tmp_path: Path) -> None:
    clip = trainable(tmp_path, "trainable.dropout=0.0", "trainable.noise=0.0", "trainable.neighbours=0")
    found = clip.loss(CLIP, BATCH, BATCH).detach()
    rows = order(len(clip.dataset.train), clip.seed, BATCH, BATCH)
    captions = [clip.dataset.train.captions[row] for row in rows]
    pictures = clip.model.images(torch.from_numpy(clip.dataset.train.media[rows].copy())).double()
    texts = clip.model.texts(captions).double()
    logits = pictures @ texts.T / 0.07
    for i in range(BATCH):
        others = [j for j in range(BATCH) if j == i or captions[j] != captions[i]]
        of_picture = torch.logsumexp(logits[i, others], 0) - logits[i, i]
        of_text = torch.logsumexp(logits[others, i], 0) - logits[i, i]
        assert float(found[i]) == pytest.approx(float(of_picture + of_text) / 2, rel=1e-4, abs=1e-5)


def test_what_is_blurred_of_a_pair_is_its_own_stream_s(tmp_path: Path) -> None:
    clip = trainable(tmp_path, "trainable.dropout=0.25", "trainable.noise=0.5")
    ones = torch.ones(400, 48)
    found = clip.blurred(ones, Streams.of_run(1, 7, 400))
    assert torch.equal(found[3:5], clip.blurred(ones[3:5], Streams.of_run(1, 10, 2)))
    left = found != 0
    assert float(left.double().mean()) == pytest.approx(0.75, abs=0.01)
    assert float(found.mean()) == pytest.approx(1, abs=0.02)
    assert float((0.75 * found[left]).std()) == pytest.approx(0.5, abs=0.01)


def test_pairs_that_say_the_same_are_no_contrast() -> None:
    found = no_contrast(torch.tensor([1, 2, 1, 3]), torch.tensor([5, 6, 7, 6]))
    assert found.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


def test_a_batch_longer_than_the_data_has_no_picture_against_itself(tmp_path: Path) -> None:
    """The second epoch's pictures are the first's, and would be negatives of themselves."""
    clip = trainable(tmp_path, "training.batch=256")
    assert len(clip.dataset.train) < 256
    clip.heads.train()
    assert bool(torch.isfinite(clip.loss(CLIP, 0, 256)).all())
    rows = order(len(clip.dataset.train), clip.seed, 0, 256)
    assert int(no_contrast(torch.from_numpy(rows)).sum()) == 2 * (256 - len(clip.dataset.train))


def test_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    before = trainable(tmp_path / "one").train.pictures
    monkeypatch.setattr("carrara.clip.pictures.Pixels.__call__", lambda self, images: pytest.fail("computed again"))
    assert torch.equal(trainable(tmp_path / "two").train.pictures, before)


def test_features_are_brought_to_one_scale(tmp_path: Path) -> None:
    clip = trainable(tmp_path)
    found = clip.heads.pictures.standard(clip.train.pictures)
    torch.testing.assert_close(found.mean(0), torch.zeros(48), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(48), rtol=1e-4, atol=1e-4)
    words = clip.heads.texts.standard(clip.train.texts)
    assert float(words.abs().max()) < 100, "a part of a word that no caption has is left at 0"


def test_heads_begin_where_pairs_agree(tmp_path: Path) -> None:
    """Before the first step they find what heads that are drawn do not, and a step goes on from there."""
    drawn, begun = trainable(tmp_path / "drawn"), opened(tmp_path / "begun", changes=["trainable.ridge=0.01"])
    clip = begun.trainable
    assert isinstance(clip, Contrastive)
    found = [one.heldout()["true_above_others"] for one in (drawn, clip)]
    assert found[0] < 0.65 and found[1] > 0.75
    assert not bool(clip.heads.texts.project.bias.any())
    assert float(clip.heads.log_scale.detach()) == pytest.approx(np.log(1 / 0.07))
    before = clip.heads.pictures.project.weight.detach().clone()
    begun.learner.step(None)
    moved = (clip.heads.pictures.project.weight.detach() - before).norm() / before.norm()
    assert 0 < float(moved) < 0.1


def test_a_preview_is_a_sheet_of_what_is_found(tmp_path: Path) -> None:
    clip = trainable(tmp_path)
    sheet, again = clip.preview(), clip.preview()
    assert sheet == again and sheet.suffix == ".png"
    shown = Image.open(io.BytesIO(sheet.data))
    assert shown.height > 12 * 64 and shown.width > 7 * 64


def test_its_recipe_has_only_what_it_is_made_from() -> None:
    assert set(recipe().sections) == {"data", "trainable", "training"}
    with pytest.raises(RecipeError, match=r"section 'network', of which a trainable of kind 'clip' makes no use"):
        recipe("network.kind=unet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.captioned=false", "a CLIP learns from captions, and the data pairs has none; give data of kind emoji"),
        (
            "trainable.image=photo",
            r"there is no trainable.image of kind 'photo': .*allowed: .*efficientnet, efficientnet\+inception, pixels",
        ),
        (
            "trainable.text=verse",
            r"there is no trainable.text of kind 'verse': .*allowed: .*minilm, minilm\+classes, words",
        ),
        ("trainable.dim=1", r"trainable\.dim is 1; it must be at least 2"),
        ("trainable.temperature=0.0", r"trainable\.temperature is 0\.0; it must be positive"),
        ("trainable.dropout=1.0", r"trainable\.dropout is 1\.0; it must be at least 0 and below 1"),
        ("trainable.noise=-0.1", r"trainable\.noise is -0\.1; it must be 0 or more"),
        ("trainable.ridge=-0.1", r"trainable\.ridge is -0\.1; it must be 0 or more"),
        ("trainable.neighbours=900", r"trainable\.neighbours is 900; it must be from 0 to the 165 training pairs"),
        ("training.batch=1", r"training\.batch is 1; it must be 2 or more"),
        ("training.accumulate=2", r"training\.accumulate is 2; it must be 1"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(tmp_path, changes=[change])


def test_other_encoders_than_it_was_trained_over_are_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrara.clip.pictures.Pixels.sha256", "f" * 64)
    with pytest.raises(InputError, match=r"over an encoder of image .*pixels@4, has ffffffffffff"):
        load(finished)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)],
    ids=["float", "one alone", "grey"],
)
def test_what_is_no_picture_is_refused(finished: Path, images: Any) -> None:
    with pytest.raises(InputError):
        load(finished).images(images)


@pytest.mark.parametrize("texts", ["red above blue", [3]])
def test_what_is_no_text_is_refused(finished: Path, texts: Any) -> None:
    with pytest.raises(InputError, match="texts must be a sequence of strings"):
        load(finished).texts(texts)


def test_hubs_are_those_of_the_heads_that_are_saved(tmp_path: Path) -> None:
    """Of the averaged weights, and without them the plain vectors are what is given."""
    run = trained(tmp_path / "run", changes=["training.ema_images=1e6", "training.lr=0.01"])
    learnt = run.trainable
    assert isinstance(learnt, Contrastive)
    words = ["red above blue", "white above pink"]
    own, found = learnt.model.texts(words), load(tmp_path / "run").texts(words)
    with run.learner.averaged():
        torch.testing.assert_close(found, learnt.model.texts(words))
    assert float((own - found).abs().max()) > 1e-3
    plain = trained(tmp_path / "plain", 2 * BATCH, ["trainable.neighbours=0"])
    assert isinstance(plain.model, ClipModel) and plain.model.hubs is None and load(tmp_path / "plain").dim == 16


def test_the_sigmoid_loss_learns_too(tmp_path: Path) -> None:
    clip = opened(tmp_path, changes=["trainable.objective=sigmoid", "training.lr=0.01"])
    learnt = clip.trainable
    assert isinstance(learnt, Contrastive) and isinstance(learnt.model, ClipModel)
    assert isinstance(learnt.heads.shift, nn.Parameter) and learnt.each is losses.sigmoid
    before = learnt.heldout()["heldout_loss"]
    for _ in range(30):
        clip.learner.step(None)
    assert learnt.heldout()["heldout_loss"] < 0.9 * before


def test_content_is_a_recipe_of_the_smallest_encoders() -> None:
    assert CONTENT["trainable"]["image"] == "pixels" and SHADES * len(COLOURS) ** 2 == 192
