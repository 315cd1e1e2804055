"""Latent diffusion from the command line: an autoencoder, its latents ahead of time, a model of them, and every command on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pooled import Pooled
from torch import Tensor

from carrara.evaluation import reconstructions as report
from carrara.kl.model import KlModel, load

Run = Callable[..., Any]
CHANGES = [
    *("data.kind=digits", "trainable.width=8", "training.batch=32", "training.previews=1"),
    *("trainable.perceptual=0", "trainable.down=1"),
]
WORDS = ["train", "kl-fashion", *(word for change in CHANGES for word in ("--set", change)), "--images", "128"]
LATENT = [
    *("data.kind=digits", "network.width=16", "network.depth=1", "training.batch=32", "training.previews=1"),
    *("training.precision=float32", "sampling.sampler=euler", "sampling.steps=3"),
]


@pytest.fixture(scope="module", autouse=True)
def features() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FEATURES", Pooled())
        yield


@pytest.fixture(scope="module")
def trained(carrara: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "kl"
    return folder, carrara(*WORDS, "--out", folder)


def latent(autoencoder: Path, *changes: str) -> list[str]:
    """The words of a recipe of its latents."""
    all_of_them = [*LATENT, f"codec.model={autoencoder}", *changes]
    return ["fashion-latent", *(word for change in all_of_them for word in ("--set", change))]


@pytest.fixture(scope="module")
def made(carrara: Run, trained: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("runs") / "latent"
    return folder, carrara("train", *latent(trained[0]), "--images", 64, "--out", folder)


def test_it_is_trained_and_says_what_is_left(trained: tuple[Path, Any]) -> None:
    folder, done = trained
    assert done.code == 0 and not done.err, done.err
    assert "reconstructions" in done.out and "structural similarity" in done.out and "carrara sample" not in done.out
    assert load(folder).latents == (4, 4, 4) and len(list((folder / "samples").iterdir())) == 2


def test_its_report_shows_what_is_left_beside_the_floor(trained: tuple[Path, Any]) -> None:
    folder = trained[0]
    page = (folder / "report.html").read_text()
    for title in ("Reconstructions", "Held-out pictures", "Training", "Data", "How it was made"):
        assert f">{title}</h2>" in page
    for words in (
        "pooled@4",
        "Structural similarity",
        "once it was latents",
        "4×4×4 latents",
        "Divergence of latents",
    ):
        assert words in page
    (found,) = json.loads((folder / "figures.json").read_text())
    assert found["n"] == found["reconstruction_frechet"]["n"] == 360 and found["ssim"] < 1
    assert 0 <= found["reconstruction_frechet"]["floor"] < found["reconstruction_frechet"]["value"]
    assert found["weights_sha256"] == load(folder).sha256


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_what_needs_pictures_to_be_made_refuses_it(carrara: Run, trained: tuple[Path, Any], command: str) -> None:
    done = carrara(command, trained[0])
    assert done.code == 2 and not done.out
    assert "holds an autoencoder of latents" in done.err and "codec: {kind: kl" in done.err


def test_a_model_of_its_latents_is_trained_and_reported(made: tuple[Path, Any]) -> None:
    folder, done = made
    assert done.code == 0 and not done.err, done.err
    assert (folder / "film.gif").is_file() and len(list((folder / "samples").glob("*.png"))) == 2
    assert (
        "on its way" in (folder / "report.html").read_text()
        or "forward process" in (folder / "report.html").read_text()
    )


def test_its_folder_needs_no_autoencoder_beside_it(made: tuple[Path, Any], here: Path) -> None:
    import carrara as package

    folder = made[0] / "model"
    assert {path.name for path in (folder / "codec").iterdir()} >= {"network.safetensors", "model.json"}
    model = package.load(folder)
    pictures = model.sample(3, seed=1)
    assert pictures.shape == (3, 1, 8, 8) and pictures.dtype == torch.uint8
    assert torch.equal(model.sample(2, seeds=[2, 3]), pictures[1:])  # One random stream a sample, in latents too.


def test_samples_films_and_changed_pictures(carrara: Run, made: tuple[Path, Any], here: Path) -> None:
    done = carrara("sample", made[0], "-n", 3, "--out", "each", "--gif", "film.gif", "--label", 1)
    assert done.code == 0 and "1×8×8" in done.out, done.err
    with Image.open(here / "film.gif") as film, Image.open(here / "each" / "00002.png") as picture:
        assert film.n_frames == 4 and picture.size == (8, 8)
    changed = carrara("sample", made[0], "--start", "each", "--strength", 0.5, "--out", "changed")
    assert changed.code == 0 and len(list((here / "changed").glob("*.png"))) == 3, changed.err
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(here / "mask.png")
    kept = carrara("sample", made[0], "--start", "each", "--mask", "mask.png", "--out", "kept")
    assert kept.code == 0, kept.err


def test_what_is_kept_of_a_picture_is_what_the_autoencoder_leaves_of_it(made: tuple[Path, Any]) -> None:
    """Latent for latent; beside the mask, pixels near what is made anew depend on it."""
    import carrara as package

    model = package.load(made[0])
    start = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[5, 6] = True
    sampling, cond = model.plan(1, {"label": [1]})
    edit = model.edit(1, start, None, mask)
    assert edit is not None
    (*_, last) = model.walk([0], cond, sampling, edit)
    off = (last.x - model.codec.encode(start[None])).abs()[0].amax(0)
    assert float(off[2, 3]) > 1e-3
    off[2, 3] = 0
    assert float(off.max()) < 1e-5


def test_it_is_measured_compared_and_studied(carrara: Run, made: tuple[Path, Any], cheap: str, here: Path) -> None:
    folder = made[0]
    done = carrara("evaluate", folder, "-n", 20, "--features", cheap, "--metrics", "frechet,neighbours")
    assert done.code == 0 and "Fréchet" in done.out, done.err
    side = carrara("compare", folder, "-n", 20, "--features", cheap, "--out", "compared")
    assert side.code == 0, side.err
    study = carrara("evaluate", folder, "-n", 10, "--features", cheap, "--study", "steps", "--values", "2,3")
    assert study.code == 0, study.err


def test_bits_of_pixels_are_kindly_refused(carrara: Run, made: tuple[Path, Any]) -> None:
    done = carrara("evaluate", made[0], "-n", 8, "--metrics", "nll")
    assert done.code == 2 and "the codec 'kl' gives something else" in done.err


# --------------------------------------------------------------------------------------------------------------- encode


def test_latents_are_made_ahead_of_time_and_found(carrara: Run, trained: tuple[Path, Any], here: Path) -> None:
    words = latent(trained[0], "seed=5")
    first, again = carrara("encode", *words, "--json"), carrara("encode", *words, "--json")
    assert first.code == again.code == 0, first.err
    told = first.lines[-1]
    assert told["shape"] == [4, 4, 4] and told["train"] == 1437 and told["heldout"] == 360
    assert again.lines[-1] == {**told, "found": True}
    kept = np.load(Path(told["folder"]) / "train.npy")
    assert (
        kept.shape == (1437, 4, 4, 4)
        and abs(float(kept.mean())) < 1e-4
        and float(kept.std()) == pytest.approx(1, 1e-3)
    )
    plain = carrara("encode", *words)
    assert "1,437 to train on" in plain.out and "kept" in plain.out and "4×4×4 numbers each, float32" in plain.out


def test_a_run_names_its_own_codec(carrara: Run, made: tuple[Path, Any]) -> None:
    done = carrara("encode", made[0], "--json")
    assert done.code == 0 and done.lines[-1]["found"], done.err


def test_what_was_stopped_goes_on(
    carrara: Run, trained: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by Ctrl-C after a few parts, and told how to go on; the parts are there, and are gone when it is done."""
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path))
    seen: list[int] = []
    plain = KlModel.encode

    def stopped(self: KlModel, media: Tensor) -> Tensor:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(len(media))
        return plain(self, media)

    monkeypatch.setattr(KlModel, "encode", stopped)
    words = ["encode", *latent(trained[0])]
    done = carrara(*words, "--json")
    assert done.code == 130 and done.lines[-1]["goes_on"].startswith("carrara encode fashion-latent --set")
    assert "The same command goes on: carrara encode fashion-latent" in done.err
    assert len(list(tmp_path.glob("encoded/.staging-parts-*/train-*.npy"))) == 3 and seen == [256] * 3
    seen[:] = [0]
    assert carrara(*words).code == 130 and seen == [0, 256, 256]
    monkeypatch.setattr(KlModel, "encode", plain)
    assert carrara(*words).code == 0 and not list(tmp_path.glob("encoded/.staging-parts-*"))
    assert len(list(tmp_path.glob("encoded/*/train.npy"))) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["digits"], "has the codec 'pixels', which encodes as training goes and keeps nothing"),
        (["kl-fashion"], "has no codec, so there is nothing to encode"),
        (["."], "is a folder and holds no run (no recipe.yaml)"),
        (["fashion-laten"], "there is no recipe 'fashion-laten': did you mean 'fashion-latent'"),
        (["fashion-latent", "--set", "data.kind=digits"], "there is no such folder; train an autoencoder first"),
    ],
)
def test_what_cannot_be_encoded_is_told(carrara: Run, here: Path, words: list[str], sentence: str) -> None:
    done = carrara("encode", *words)
    assert done.code == 2 and sentence in done.err and not done.out


def test_pictures_that_the_autoencoder_does_not_know_are_refused(
    carrara: Run, trained: tuple[Path, Any], here: Path
) -> None:
    """Before any is encoded: three channels, and sides that do not divide."""
    for name, size, mode in (("colour", 8, "RGB"), ("odd", 9, "L")):
        (here / name).mkdir()
        for index in range(20):
            Image.new(mode, (size, size), 9 * index if mode == "L" else (9 * index, 0, 0)).save(
                here / name / f"{index}.png"
            )
    data = ["data.kind=folder", "condition.kind=none"]
    base = ["fashion-latent", *(w for c in [*LATENT[1:], f"codec.model={trained[0]}", *data] for w in ("--set", c))]
    for command in (["encode"], ["train", "--images", "32", "--out", "run"]):
        colour = carrara(command[0], *base, "--set", "data.path=colour", "--set", "data.size=8", *command[1:])
        assert colour.code == 2 and "1×8×8 and the data has 3×8×8: 1 channel is grey, 3 are RGB" in colour.err
        odd = ["data.path=odd", "data.size=9", "data.channels=1"]
        refused = carrara(command[0], *base, *(w for c in odd for w in ("--set", c)), *command[1:])
        assert refused.code == 2 and "a side must be a multiple of 2, such as 8 or 10" in refused.err


def test_an_autoencoder_that_changed_ends_a_run_of_its_latents(
    carrara: Run, trained: tuple[Path, Any], here: Path
) -> None:
    import shutil

    shutil.copytree(trained[0] / "model", here / "kl")
    words = ["train", *latent(here / "kl"), "--images", "64", "--out", "run"]
    assert carrara(*words).code == 0
    other = load(here / "kl")
    other.scaling.shift.add_(1)
    other.save(here / "kl")
    done = carrara(*words)
    assert done.code == 2 and "the codec that the recipe names is another than when the run in run began" in done.err
