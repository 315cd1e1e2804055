"""Masks by chance (MaskGIT) and by a plan beside the autoregressive model over the same words of the same autoencoder.

`make bench-maskgit`: first the autoencoder (vq-fashion), then all three, at equal parameters, data and minutes. Every way to sample
is measured by the Fréchet distance of as many samples with the same classes, and timed in turns, in batches and a picture at a
time; each model is judged by the best of its ways, masked ones with at most MOST evaluations of the network. What is lost in the
autoencoder is the floor of all. Two pictures are drawn: samples of all under real pictures, and the steps of a few.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import lengths
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from benchmarks.rivals.pictures import labels_in_turn
from benchmarks.ways import Made, Way, made
from carrara import files
from carrara.data import Dataset
from carrara.evaluation.measure import Yardstick, heldout, yardstick
from carrara.evaluation.pictures import labelled_grid, png_bytes
from carrara.model import Model
from carrara.planning import Planned
from carrara.training.run import dataset_of

VQ = "vq-fashion"
RECIPES = {"masked": "maskgit-fashion", "planned": "planned-fashion", "ar": "ar-fashion"}
MOST = 12
ROUNDS = 4
BATCH = 50
ALONE = 32
"""Pictures that are timed one at a time."""
PICTURES = Path("docs/pictures")
SHOWN = 3
"""Pictures whose steps are shown."""
WAYS = {
    **{
        f"maskgit, {steps} steps, guidance {scale:g}, chance {chance:g}": Way(
            "masked", {"steps": steps, "guidance_scale": scale, "options": {"choice_temperature": chance}}
        )
        for steps, scale, chance in (
            (8, 1.0, 10.0),
            (12, 1.0, 4.5),
            (12, 1.0, 10.0),
            (12, 1.0, 30.0),
            (6, 1.5, 4.5),
            (6, 1.5, 10.0),
        )
    },
    **{
        f"{side}, guidance {scale:g}, temperature {temperature:g}": Way(
            model, {"guidance_scale": scale, "options": {"temperature": temperature}}
        )
        for side, model, scales in (
            ("planned", "planned", (1.0, 1.5)),
            ("autoregressive", "ar", (1.0, 1.25, 1.5, 2.0)),
        )
        for scale in scales
        for temperature in ((1.0, 0.95) if scale == 1 else (1.0,))
    },
}
"""A guided step asks the network twice."""

NOTES = {
    "fid_over_ar": "the best Fréchet distance of masks, whichever way they go, with at most 12 evaluations over the autoregressive "
    "model's best",
    "speed_over_ar": "pictures a second of the same two, one over the other, a picture at a time; the autoregressive model "
    "remembers what it has read, and so does the planned one",
    "speed_over_ar_in_batches": "the same in batches",
    "evaluations": "of the network, for a picture by that best way of masks",
    "over_ar": "the same four of each model of masks: `masked` is MaskGIT, whose order is chance's, `planned` goes by diagonals",
    "one_at_a_time": "of the best ways, pictures a second",
    "batch": "pictures that are made at once for `ways`",
    "best": "the way of each model that these are of",
    "codec_floor": "Fréchet distance of held-out pictures once they were words: what a perfect model of words has",
    "floor": "of held-out pictures as they are",
    "ceiling": "of uniform noise",
    "n": "pictures behind each distance",
    "reference": "what pictures are compared with",
    "ways": "each way to sample: frechet, evaluations, images_per_s (median of the rounds, least, most)",
    "codec_images": "images the autoencoder was trained on",
    **lengths.NOTES,
}


def main() -> None:
    """Trains what is not trained, samples, measures, reports."""
    asked = arguments()
    command("train", VQ, "--images", str(asked.codec_images), "--out", str(asked.runs / VQ))
    codec = f"codec.model={asked.runs / VQ}"
    recipes = {name: [recipe, "--set", codec] for name, recipe in RECIPES.items()}
    models = lengths.trained(lengths.changed(recipes, asked.set), asked.minutes, asked.runs)
    dataset = dataset_of(models["masked"].recipe)
    pictures = made(models, WAYS, asked.n, ROUNDS, BATCH, lambda seeds: labelled(dataset, seeds))
    measure = yardstick(dataset, asked.n)
    found = {name: figures(models, name, each, measure) for name, each in pictures.items()}
    best = {side: best_of(found, side) for side in models}
    alone = made(models, {name: WAYS[name] for name in best.values()}, ALONE, ROUNDS, 1)
    speeds = {name: each.per_s.as_dict() for name, each in alone.items()}
    samples = {side: pictures[name].samples for side, name in best.items()}
    draw(asked.pictures, beside(models["masked"], dataset, samples), steps(models, dataset, best))
    report(
        "maskgit", {**compared(found, best, speeds), "ways": found, **about(models, dataset, measure, asked)}, NOTES
    )


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training of each model of words")
    parser.add_argument("--codec-images", type=int, default=120_000, help="images that the autoencoder is trained on")
    parser.add_argument("-n", type=int, default=1000, help="samples of each way")
    parser.add_argument(
        "--set", action="append", default=[], help="a change of all recipes of words, as of carrara train"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/maskgit"), help="where the runs are kept")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="where the two pictures go")
    return parser.parse_args()


def labelled(dataset: Dataset, seeds: range) -> dict[str, list[int]]:
    """The classes of samples with these seeds, in turn."""
    return {"label": labels_in_turn(dataset, seeds.start, len(seeds)).tolist()}


def figures(models: Mapping[str, Model], name: str, pictures: Made, measure: Yardstick) -> dict[str, Any]:
    """Of one way to sample."""
    way = WAYS[name]
    return {
        "frechet": measure.measure(pictures.samples).value,
        "evaluations": evaluations(models[way.model], way.wishes),
        "images_per_s": pictures.per_s.as_dict(),
    }


def evaluations(model: Model, wishes: Mapping[str, Any]) -> int:
    """Times that the network is asked for a picture, twice each where it is guided; by a plan once a round, else once a word."""
    sampling, process = model.wished(1, wishes)[0], model.denoiser.process
    each: int = process.count if isinstance(process, Planned) else model.codec.told(model.shape)["length"]
    return sampling.passes() or each * (1 if sampling.guidance_scale == 1 else 2)


def best_of(found: Mapping[str, Mapping[str, Any]], side: str) -> str:
    """The way of a model with the least distance; of those of masks with at most MOST evaluations."""
    most = math.inf if side == "ar" else MOST
    among = [name for name, way in WAYS.items() if way.model == side and found[name]["evaluations"] <= most]
    return min(among, key=lambda name: float(found[name]["frechet"]))


def compared(
    found: Mapping[str, Mapping[str, Any]], best: Mapping[str, str], speeds: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The best way of each model beside the autoregressive one's; `speeds` are those of a picture at a time."""
    theirs = found[best["ar"]]
    over = {
        side: {
            "fid_over_ar": found[way]["frechet"] / theirs["frechet"],
            "speed_over_ar": speeds[way]["median"] / speeds[best["ar"]]["median"],
            "speed_over_ar_in_batches": found[way]["images_per_s"]["median"] / theirs["images_per_s"]["median"],
            "evaluations": found[way]["evaluations"],
        }
        for side, way in best.items()
        if side != "ar"
    }
    least = min(over.values(), key=lambda each: float(each["fid_over_ar"]))
    return {**least, "over_ar": over, "best": dict(best), "one_at_a_time": dict(speeds)}


def about(
    models: Mapping[str, Model], dataset: Dataset, measure: Yardstick, asked: argparse.Namespace
) -> dict[str, Any]:
    """What the figures are of, and between."""
    real: Tensor = heldout(dataset, asked.n)[: asked.n]
    codec = models["masked"].codec
    scale = {"floor": measure.floor, "ceiling": measure.ceiling, "n": asked.n, "reference": measure.reference}
    return {
        "codec_floor": measure.measure(codec.decode(codec.encode(real))).value,
        **scale,
        "codec_images": asked.codec_images,
        "batch": BATCH,
        "minutes": asked.minutes,
        "training": lengths.told(models, asked.runs),
    }


def beside(model: Model, dataset: Dataset, samples: Mapping[str, Tensor]) -> Image.Image:
    """A held-out picture of each class, what comes back of it from words, and under them the first samples of each model."""
    first = [int(np.flatnonzero(dataset.heldout.labels == label)[0]) for label in range(len(dataset.classes))]
    real = torch.from_numpy(dataset.heldout.pictures[first])
    rows = [real, model.codec.decode(model.codec.encode(real)), *(made[: 2 * len(real)] for made in samples.values())]
    names = ["held out", "as words", "MaskGIT", "", "by a plan", "", "autoregressive", ""]
    return labelled_grid(torch.cat(rows).numpy(), names, dataset.classes, scale=2)


def steps(models: Mapping[str, Model], dataset: Dataset, best: Mapping[str, str]) -> Image.Image:
    """What shows of the first samples of both kinds of masks before each step, and at the end; hidden words are grey."""
    seeds = range(SHOWN)
    films = [film(models[side], dataset, WAYS[best[side]], seeds) for side in ("masked", "planned")]
    most = max(made.shape[1] for made in films)
    rows = [torch.cat([made, made[:, -1:].expand(-1, most - made.shape[1], *made.shape[2:])], 1) for made in films]
    names = [name if not index else "" for name in ("MaskGIT", "by a plan") for index in seeds]
    return labelled_grid(torch.cat(rows).flatten(0, 1).numpy(), names, [str(step) for step in range(most)], scale=2)


def film(model: Model, dataset: Dataset, way: Way, seeds: range) -> Tensor:
    """What shows of these samples before each step, and at the end, (B, steps + 1, C, H, W)."""
    wishes: dict[str, Any] = {**way.wishes, **labelled(dataset, seeds)}
    return torch.stack([shown for _, shown, _ in model.film(seeds, **wishes)], 1)


def draw(folder: Path, beside: Image.Image, steps: Image.Image) -> None:
    """Writes both pictures."""
    for name, picture in {"maskgit": beside, "maskgit-steps": steps}.items():
        files.write(folder / f"{name}.png", png_bytes(picture))


if __name__ == "__main__":
    main()
