"""Vectors of tokens are trained by the one loop, their table with the network; and a model of them is a model like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import embedded_texts
import pytest
import torch
from embedded_texts import CONTENT, LENGTH, WIDTH, opened, trained
from small import BATCH, differing, files_of, metrics, state
from torch import Tensor
from two import equal_to_one

import carrara
from carrara import files, tensors
from carrara.errors import DamagedFile, RecipeError
from carrara.evaluation.settings import weights_sha256
from carrara.evaluation.texts.bits import bits
from carrara.model import Model, build
from carrara.processes import NUMBERS
from carrara.recipe import check
from carrara.samplers import over
from carrara.training import run as run_module
from carrara.training.run import MODEL

TABLE = "codec/table.safetensors"
LONG = 300 * BATCH
TAUGHT = ["training.lr=0.01", "training.ema_images=400", "training.checkpoint_s=3600"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that gather over three steps, no waiting for the disk."""
    monkeypatch.setattr(run_module, "LOG_STEPS", 3)
    monkeypatch.setattr(files, "flush", lambda path: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, not to be changed, that has learnt a little."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trained(folder, LONG, TAUGHT)
    return folder


@pytest.fixture
def model(finished: Path) -> Model:
    return carrara.load(finished)


def walked(model: Model, seeds: list[int], start: str | None = None, **wishes: object) -> list[Tensor]:
    """x after every step."""
    sampling, cond = model.plan(len(seeds), wishes)
    return [step.x for step in model.walk(seeds, cond, sampling, model.edit(len(seeds), start))]


def test_the_table_is_one_object_and_moves(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    model = run.trainable.model
    assert isinstance(model, Model)
    table = model.denoiser.table
    assert model.codec.table is table
    before = table.weight.detach().clone()
    assert run.learner.parameters["denoiser"]["table.weight"] is table.weight
    run.learner.step(160)
    assert not torch.equal(table.weight, before)


@pytest.mark.parametrize("changes", [[], ["process.clamp=none"], ["training.precision=bf16"]], ids=str)
def test_a_split_run_equals_the_whole_one_with_its_table(tmp_path: Path, changes: list[str]) -> None:
    """Cut after 1, 5 (where a preview is taken) and 9 of its 10 steps."""
    trained(tmp_path / "whole", changes=changes)
    for steps in (1, 4, 4):
        trained(tmp_path / "split", changes=changes, steps=steps)
    trained(tmp_path / "split", changes=changes)
    one, other = (opened(tmp_path / name, changes=changes) for name in ("split", "whole"))
    assert "weight table.weight" in state(one) and differing(state(one), state(other)) == []
    assert metrics(tmp_path / "split") == metrics(tmp_path / "whole")
    assert files_of(tmp_path / "split") == files_of(tmp_path / "whole")
    tables = [(tmp_path / name / MODEL / TABLE).read_bytes() for name in ("split", "whole")]
    assert tables[0] == tables[1]


def test_the_averaged_table_is_the_one_that_is_saved(finished: Path) -> None:
    run = opened(finished, LONG, TAUGHT)
    saved = tensors.load(finished / MODEL / TABLE)["weight"]
    assert torch.equal(saved, run.learner.average["denoiser"]["table.weight"])
    assert not torch.equal(saved, run.learner.parameters["denoiser"]["table.weight"])


def test_what_is_saved_is_loaded_and_samples_the_same(finished: Path, model: Model) -> None:
    run = opened(finished, LONG, TAUGHT)
    ours = run.trainable.model
    assert isinstance(ours, Model)
    with run.learner.averaged():
        texts = ours.sample(6, seed=2)
        assert weights_sha256(ours) == weights_sha256(model)
        assert torch.equal(walked(ours, [0, 1])[-1], walked(model, [0, 1])[-1])
    assert texts == model.sample(6, seed=2) and all(isinstance(text, str) for text in texts)
    assert model.codec.table is model.denoiser.table
    assert weights_sha256(ours) != weights_sha256(model), "the weights as they are, not averaged"


def test_the_table_counts_among_what_was_trained(model: Model) -> None:
    before = weights_sha256(model)
    with torch.no_grad():
        model.denoiser.table.weight[0, 0] += 1
    assert weights_sha256(model) != before


def test_a_damaged_table_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / MODEL, tmp_path / "model")
    path = tmp_path / "model" / TABLE
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedFile, match="table"):
        carrara.load(tmp_path / "model")


def test_it_learns_to_tell_tokens_apart(
    finished: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path))
    found = bits(model, opened(finished, LONG, TAUGHT).dataset, draws=16)
    assert found.per_character < 0.96 * found.unigram and not found.exact and found.estimate_error > 0
    lines = metrics(finished)
    held = [line["heldout_loss_ema"] for line in lines if "heldout_loss_ema" in line]
    assert held[-1] < held[0]


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun", "dpmpp_2m"])
def test_a_sample_is_the_same_in_any_batch(model: Model, sampler: str) -> None:
    whole = walked(model, [0, 1, 2, 3, 4], sampler=sampler)[-1]
    assert whole.shape == (5, LENGTH, WIDTH)
    for seeds in ([3], [2, 3]):
        torch.testing.assert_close(walked(model, seeds, sampler=sampler)[-1][-1], whole[3], rtol=1e-4, atol=1e-4)
    texts = model.sample(5, sampler=sampler)
    assert model.sample(5, sampler=sampler, batch=2) == texts and len(set(texts)) > 1


@pytest.mark.parametrize("sampler", [name for name in over(NUMBERS) if name != "adaptive"])
def test_what_is_given_of_a_text_never_changes(model: Model, sampler: str) -> None:
    """What is believed of it is its own rows at every step, and at the end it stands there; the rest is made."""
    start = "ca▁ d"
    known, made = model.codec.start(start, None, (), 4)
    made = made[..., 0]
    x = walked(model, [0, 1, 2, 3], start, sampler=sampler, steps=4)[-1]
    torch.testing.assert_close(x[~made], known[~made], rtol=1e-5, atol=1e-5)
    texts = model.sample(8, start=start, sampler=sampler)
    assert all(text[:2] == "ca" and text[3:5] == " d" for text in texts)
    assert len({text[2:3] for text in texts}) > 1 or len({text[5:] for text in texts}) > 1
    for _, _, believed in model.film([0, 1], start=start, sampler=sampler):
        assert all(text[:2] == "ca" for text in believed)


def test_a_film_shows_texts_at_every_step(model: Model) -> None:
    frames = list(model.film([0, 1, 2]))
    assert len(frames) == 4 and frames[0][0] == 1 and frames[-1][0] == 0
    for _, x_t, x0 in frames:
        assert [type(text) for text in [*x_t, *x0]] == [str] * 6
    assert frames[-1][1] == frames[-1][2] == model.sample(3)


REFUSED = {
    "no table": (
        {"codec": {"kind": "bytes", "length": 8}, "network": {"kind": "tokens"}},
        "process embedded .* has none",
    ),
    "nobody trains it": (
        {"process": {"kind": "gaussian"}},
        "'embedding' has a table .* the process 'gaussian' trains none",
    ),
    "masks": (
        {"process": {"kind": "masked"}, "prediction": None, "weight": None},
        "the process 'masked' trains none",
    ),
    "other network": ({"network": {"kind": "tokens"}}, "network.kind 'tokens' is for other data"),
    "unet": ({"network": {"kind": "unet"}}, "network.kind 'unet' is for other data: it needs to know size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    changes, words = REFUSED[name]
    bytes_ = {"codec": {"kind": "embedding", "codec": {"kind": "bytes", "length": LENGTH}}}
    content = {key: value for key, value in {**CONTENT, **bytes_, **changes}.items() if value is not None}
    with pytest.raises(RecipeError, match=words):
        build(check(content), (), ())


def test_two_processes_equal_one(tmp_path: Path) -> None:
    assert "weight table.weight" in equal_to_one(embedded_texts, tmp_path, 128)
