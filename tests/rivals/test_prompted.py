"""The benchmarks of text to image: their parts, on a small model of plain pictures and a CLIP that reads colours."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import emoji, encoders, latents, lengths, prompted
from benchmarks import result as results
from benchmarks.prompted import Asked, Judges
from torch import Tensor
from torch.nn import functional as F

from carrara.data import Dataset, Split
from carrara.kl.model import build as build_kl
from carrara.model import Model, build
from carrara.recipe import check, read

GREYS = {name: 9 * place for place, name in enumerate("abcdefghijklmnopqrstuvwxyz")}


class Greys:
    """A CLIP that sees how bright a picture is, and reads it in a letter."""

    name, dim, sha256 = "greys@2", 2, "c" * 64

    def images(self, images: Tensor, /) -> Tensor:
        return self._turned(images.float().flatten(1).mean(1))

    def texts(self, texts: Sequence[str], /) -> Tensor:
        return self._turned(torch.tensor([float(GREYS[text]) for text in texts]))

    def _turned(self, level: Tensor) -> Tensor:
        return torch.stack([(level / 255).cos(), (level / 255).sin()], 1)


class Averages:
    """Features that cost nothing."""

    name, dim, sha256, resizer = "averages@12", 12, "0" * 64, "area"

    def __call__(self, images: Tensor, /) -> Tensor:
        return F.adaptive_avg_pool2d(images.float(), 2).flatten(1)


def split(letters: str) -> Split:
    rng = np.random.default_rng(len(letters))
    media = np.stack([np.full((3, 16, 16), GREYS[letter], np.uint8) for letter in letters])
    media += rng.integers(0, 9, media.shape, dtype=np.uint8)
    return Split(media, np.array([letter > "m" for letter in letters], np.int64), tuple(letters))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    train, heldout = split("abcdefghijklmnopqrstuvwx" * 2), split("acegikmoqsuwy")
    return Dataset("greys", ("dark", "light"), train, heldout, "d" * 64, "none", "made here")


@pytest.fixture
def judges(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judges:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    return Judges.of(dataset, 12, Averages(), Greys())


SMALL = ("network={kind: unet, width: 8, depth: 1}", "sampling={sampler: euler, steps: 2, guidance_scale: 2.0}")


def small(condition: str, classes: Sequence[str] = ()) -> Model:
    return build(read("emoji", [*SMALL, f"condition={condition}"]), (3, 16, 16), tuple(classes))


@pytest.fixture(scope="module")
def models(dataset: Dataset) -> dict[str, Model]:
    letters = small("{kind: text, encoder: bytes, length: 4}")
    return {"minilm": letters, "classes": small("{kind: label}", dataset.classes)}


def test_real_pictures_fit_their_captions_and_mixed_ones_do_at_chance(
    judges: Judges, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked.of(dataset.heldout, 12)
    assert judges.rank(asked.real, asked).above_floor == 1
    mixed = asked.real[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    found = judges.figures(mixed, asked, tmp_path)
    assert found["fid"] == pytest.approx(judges.measure.floor, rel=1e-3) and 0.15 < found["clip_rank"] < 0.85
    other = judges.figures(asked.real, asked, tmp_path)
    assert other["clip_rank"] == 1
    monkeypatch.setattr(Judges, "rank", lambda *_: pytest.fail("what is known was looked at again"))
    assert judges.figures(mixed, asked, tmp_path) == found and judges.figures(asked.real, asked, tmp_path) == other


def test_models_are_asked_for_the_captions_or_for_the_classes_of_their_pictures(
    models: dict[str, Model], dataset: Dataset
) -> None:
    asked = Asked.of(dataset.heldout, 12)
    own = {GREYS[caption]: picture for caption, picture in zip(asked.captions, asked.real, strict=True)}
    assert len(own) == 12 and all(
        abs(float(picture.float().mean()) - level - 4) < 1 for level, picture in own.items()
    )
    assert asked.wishes(models["minilm"]) == {"prompt": asked.captions}
    assert asked.wishes(models["classes"]) == {"label": [int(caption > "m") for caption in asked.captions]}


def test_a_models_figures_stand_beside_floor_and_chance(
    models: dict[str, Model], judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prompted.figures(models["minilm"], judges, (1.0, 2.0), tmp_path)
    json.dumps(found)
    assert found.keys() <= prompted.NOTES.keys() and found["n"] == 12 and found["clip_rank_chance"] == 0.5
    assert (found["seen_clip_rank_real"], found["heldout_clip_rank_real"]) == (1, 1)
    assert found["floor"] < found["fid"] and [point["guidance"] for point in found["guidance"]] == [1, 2]
    # The recipe's own scale, 2, is a point of the curve, and is not drawn again.
    assert found["guidance"][1] == {
        "guidance": 2.0,
        "fid": found["fid"],
        "clip_rank": found["heldout_clip_rank"],
        "clip_score": found["guidance"][1]["clip_score"],
    }
    monkeypatch.setattr(Model, "walk", lambda *_: pytest.fail("what is kept was drawn again"))
    assert prompted.figures(models["minilm"], judges, (1.0, 2.0), tmp_path) == found


@pytest.fixture
def latent(tmp_path: Path) -> Model:
    """A model of latents, and the autoencoder in it, neither trained."""
    recipe = check({"data": {"kind": "emoji"}, "trainable": {"kind": "kl", "channels": 3, "width": 8, "depth": 1}})
    kl = build_kl(recipe, (3, 16, 16))
    kl.facts = {"training_images_seen": 64}
    kl.save(tmp_path / "kl")
    codec = f"codec={{kind: kl, model: {tmp_path / 'kl'}}}"
    return build(read("emoji", [*SMALL, "condition={kind: text, encoder: bytes, length: 4}", codec]), (3, 16, 16), ())


def test_latents_stand_beside_pixels_with_the_autoencoders_share(
    models: dict[str, Model], latent: Model, judges: Judges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "dataset_of", lambda recipe: judges.dataset)
    monkeypatch.setattr(latents, "TIMED", 8)
    monkeypatch.setattr(latents, "SCALES", (1.0,))
    rates = {"latent": {"images_per_s": 30.0}, "pixels": {"images_per_s": 10.0}}
    monkeypatch.setattr(lengths, "told", lambda models, runs: rates)
    both = {"latent": latent, "pixels": models["minilm"]}
    found = latents.figures(both, Greys(), Averages(), tmp_path, 12)
    json.dumps(found)
    assert found.keys() <= prompted.NOTES.keys() | latents.NOTES.keys()
    assert found["pixels"]["fid"] == prompted.figures(models["minilm"], judges, (1.0,), tmp_path / "again")["fid"]
    assert found["fid_over_pixels"] == found["fid"] / found["pixels"]["fid"] and found["training_over_pixels"] == 3
    above = found["fid"] - found["floor"]
    assert found["share_of_autoencoder"] == pytest.approx((found["codec_floor"] - found["floor"]) / above, rel=1e-6)
    assert found["codec"].keys() == {"images", "parameters", "mse", "psnr", "ssim"} and found["codec"]["images"] == 64


def test_the_autoencoder_is_trained_first_and_is_that_of_the_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(latents, "command", lambda *words: said.append(words))
    monkeypatch.setattr(lengths, "trained", lambda *asked: said.append(asked))
    latents.trained(20.0, Path("runs"), 64)
    assert said[0] == ("train", "kl-emoji", "--images", "64", "--out", "runs/kl-emoji")
    recipes = {
        "latent": ["emoji-latent", "--set", "codec.model=runs/kl-emoji"],
        "pixels": ["emoji", "--set", "data.size=64"],
    }
    assert said[1:] == [(recipes, 20.0, Path("runs"))]


def test_the_picture_asks_for_seen_captions_first(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[list[str], list[str]]] = []

    def told(*words: str) -> float:
        said.append(([*words], Path(words[words.index("--prompts") + 1]).read_text().splitlines()))
        return 0.0

    monkeypatch.setattr(emoji, "command", told)
    monkeypatch.setattr(emoji, "SHOWN", 4)
    emoji.drawing(Path("run"), dataset, Path("docs/x.png"))
    ((words, lines),) = said
    assert words[:2] == ["sample", "run"] and words[-3:] == ["--out", "docs/x.png", "--overwrite"]
    assert lines == Asked.of(dataset.train, 4).captions + Asked.of(dataset.heldout, 4).captions


def test_the_study_of_encoders_is_written_down_and_drawn(
    models: dict[str, Model], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of `make bench-encoders` but the trainings."""
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    told = SimpleNamespace(
        minutes=1.0, n=None, features=Averages(), runs=tmp_path, clip=tmp_path, chart=tmp_path / "chart.svg"
    )
    monkeypatch.setattr(encoders, "arguments", lambda: told)
    monkeypatch.setattr(encoders, "SCALES", (1.0, 3.0))
    monkeypatch.setattr(encoders, "command", lambda *words: 0.0)
    monkeypatch.setattr(encoders, "load_clip", lambda path: Greys())
    monkeypatch.setattr(encoders, "dataset_of", lambda recipe: dataset)
    monkeypatch.setattr(lengths, "trained", lambda recipes, minutes, runs: models)
    monkeypatch.setattr(lengths, "told", lambda models, runs: {})
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    encoders.main()
    kept: dict[str, Any] = json.loads((tmp_path / "encoders.json").read_text())
    assert kept["encoders"].keys() == models.keys() == kept["best"].keys()
    assert kept["best"]["classes"]["fid"] == min(point["fid"] for point in kept["encoders"]["classes"])
    assert kept["real"]["clip_rank"] == 1 and kept["n"] == 13 and kept.keys() - {"made"} <= encoders.NOTES.keys()
    drawn = (tmp_path / "chart.svg").read_text()
    assert re.search("CLIP score", drawn) and re.search("minilm", drawn) and re.search("held-out pictures", drawn)


@pytest.mark.parametrize("recipes", [emoji.RECIPES, encoders.RECIPES])
def test_the_recipes_are_there_and_differ_in_who_reads_alone(recipes: dict[str, list[str]]) -> None:
    found = {name: read(words[0], words[2::2]).as_dict() for name, words in recipes.items()}
    for one in found.values():
        for section in ("name", "condition", "sampling"):
            one.pop(section)
    assert len({json.dumps(one, sort_keys=True) for one in found.values()}) == 1
