"""Latents beside pixels: text to image at 64×64 by the recipe emoji-latent, and by emoji at that size, for as many minutes.

First the autoencoder (kl-emoji), whose own minutes are not counted among them; then both models, each at its own rate on the idle
machine, see benchmarks.lengths. They are asked for the same captions, see benchmarks.prompted, and sample in turns for their speed.
What reconstructions of held-out pictures are away from real ones is the autoencoder's share of the distance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import lengths, prompted
from benchmarks.prompted import Asked, Judges
from benchmarks.recipes import carrara as command
from benchmarks.ways import Way, made
from carrara.codecs.kl import Kl
from carrara.data import Dataset
from carrara.errors import InputError
from carrara.evaluation.clip import Clip
from carrara.evaluation.features import Features
from carrara.evaluation.measure import heldout
from carrara.evaluation.studies.run import FOLDER
from carrara.kl.model import KlModel
from carrara.kl.share import share
from carrara.model import Model
from carrara.training.run import dataset_of

KL = "kl-emoji"
KL_IMAGES = 32_000
RECIPES: dict[str, list[str]] = {"latent": ["emoji-latent"], "pixels": ["emoji", "--set", "data.size=64"]}
SHARED = ("floor", "ceiling", "n", "reference", "features", "clip", "clip_sha256", "clip_rank_chance")
"""What is the same of both models, and said once."""
SCALES = (1.0, 3.0)
"""Of guidance: none, and the recipes' own."""
TIMED, ROUNDS, BATCH = 32, 4, 8
NOTES = {
    "pixels": "the same figures of the recipe emoji at the same size, trained for as many minutes",
    "fid_over_pixels": "the distance of the model of latents over that of the model of pixels",
    "images_per_s": "of sampling, each by its recipe's own steps and guidance: median of the rounds in turns, least, most",
    "sampling_over_pixels": "the medians, one over the other",
    "training_over_pixels": "images a second of training, one over the other, on the idle machine",
    "codec_floor": "Fréchet distance of held-out pictures that were latents: what a perfect model of latents would have",
    "share_of_autoencoder": "of the distance above the floor, how much is in reconstructions already",
    "codec": "of the autoencoder: training images seen, parameters, and mse, psnr, ssim of held-out pictures that come back",
    **{name: lengths.NOTES[name] for name in ("minutes", "training")},
}


def trained(minutes: float, runs: Path, images: int = KL_IMAGES) -> dict[str, Model]:
    """The model of latents and the one of pixels, each trained for so many minutes, the autoencoder first."""
    command("train", KL, "--images", str(images), "--out", str(runs / KL))
    codec = ["--set", f"codec.model={runs / KL}"]
    return lengths.trained({**RECIPES, "latent": [*RECIPES["latent"], *codec]}, minutes, runs)


def figures(
    models: dict[str, Model], clip: Clip, features: Features | str, runs: Path, n: int | None
) -> dict[str, Any]:
    """All that is to be said of the two: of the model of latents, under "pixels" of the other, and how they compare."""
    dataset = dataset_of(models["pixels"].recipe)
    judges = Judges.of(dataset, len(dataset.heldout) if n is None else n, features, clip)
    found = {name: prompted.figures(model, judges, SCALES, runs / name / FOLDER) for name, model in models.items()}
    return {
        **found["latent"],
        **of_autoencoder(models["latent"], judges, runs / "latent" / FOLDER),
        "pixels": {name: value for name, value in found["pixels"].items() if name not in SHARED},
        "fid_over_pixels": found["latent"]["fid"] / found["pixels"]["fid"],
        **speeds(models, dataset),
        **told(models, dataset, runs),
    }


def of_autoencoder(model: Model, judges: Judges, folder: Path) -> dict[str, float]:
    """codec_floor and share_of_autoencoder of the samples behind the model's fid."""
    asked, own = Asked.of(judges.dataset.heldout, judges.measure.n), model.sampling.guidance_scale
    samples = prompted.drawn(model, asked, judges, [own], folder)[own]
    found = share(model, judges.dataset, samples, judges.measure.features)
    return {"codec_floor": found.reconstructions, "share_of_autoencoder": found.of_autoencoder}


def speeds(models: dict[str, Model], dataset: Dataset) -> dict[str, Any]:
    """Samples a second of both, in turns, each as its recipe samples."""
    captions = Asked.of(dataset.heldout, min(TIMED, len(dataset.heldout))).captions
    asked = {name: Way(name, {}) for name in models}
    timed = made(models, asked, len(captions), ROUNDS, BATCH, lambda seeds: {"prompt": [captions[i] for i in seeds]})
    rates = {name: each.per_s for name, each in timed.items()}
    return {
        "images_per_s": {name: rate.as_dict() for name, rate in rates.items()},
        "sampling_over_pixels": rates["latent"].median / rates["pixels"].median,
    }


def told(models: dict[str, Model], dataset: Dataset, runs: Path) -> dict[str, Any]:
    """What is to be said of the trainings, and of the autoencoder."""
    training, codec = lengths.told(models, runs), autoencoder(models["latent"])
    return {
        "training": training,
        "training_over_pixels": training["latent"]["images_per_s"] / training["pixels"]["images_per_s"],
        "codec": {
            "images": codec.facts["training_images_seen"],
            "parameters": codec.parameters,
            **codec.figures(heldout(dataset, len(dataset.heldout))[:]),
        },
    }


def autoencoder(model: Model) -> KlModel:
    """The one inside a model of latents."""
    if not isinstance(model.codec, Kl):
        raise InputError(f"the model {model.recipe.name} is of no latents: its codec is {type(model.codec).__name__}")
    return model.codec.model
