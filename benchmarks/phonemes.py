"""How words are said: Mask-Predict against a model of one order, at equal images, parameters and data: `make bench-phonemes`.

Both are trained as a user trains them and kept in runs/, then say every held-out word; what is timed is one batch after another.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import carrara
from benchmarks.recipes import carrara as command
from benchmarks.result import report
from carrara.data import Dataset
from carrara.errors import InputError
from carrara.evaluation.texts.edits import errors, token_accuracy
from carrara.model import Model
from carrara.training.run import dataset_of

RECIPES = {"masked": "phonemes", "ar": "ar-phonemes"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "mask_predict_4": ("masked", {"steps": 4}),
    "mask_predict_10": ("masked", {"steps": 10}),
    "ar_greedy": ("ar", {}),
}
"""Which model, and how it is sampled; all else is the recipe's."""
IMAGES = 200_000
BATCH = 128
SOUND = re.compile("[ˈˌ]?(?:aʊ|aɪ|ɔɪ|eɪ|oʊ|tʃ|dʒ|.)")
"""One sound of the dictionary in IPA, its stress before it."""

NOTES = {
    "per_over_ar": "phoneme error rate of Mask-Predict in 10 rounds over that of the greedy autoregressive model",
    "speed_over_ar": "words a second of the same two, one over the other",
    "ways": "each way to sample: per (edits a sound, its stress included), per_without_stress, wer (share of words not right), "
    "token_accuracy (of the first pronunciation's characters and the end, at their places), seconds, words_per_s",
    "n": "held-out words",
    "batch": "words that are said at once",
    "parameters": "of each network",
    "training": "images seen and seconds, of each model",
}


def main() -> None:
    """Trains what is not trained, says all held-out words, reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help="words that each model is trained on")
    parser.add_argument("-n", type=int, help="held-out words; all, unless said")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--set", action="append", default=[], help="a change of both recipes, as of carrara train")
    asked = parser.parse_args()
    models = {name: trained(recipe, asked) for name, recipe in RECIPES.items()}
    dataset = dataset_of(models["masked"].recipe)
    check(models)
    found = {name: said(models[model], dataset, asked.n, way) for name, (model, way) in WAYS.items()}
    report("phonemes", {**compared(found), "ways": found, **about(models, dataset, asked.n)}, NOTES)


def trained(recipe: str, asked: argparse.Namespace) -> Model:
    """The model of a recipe, trained where it is not: the same command goes on with what was begun."""
    folder = asked.runs / recipe
    changes = [word for change in asked.set for word in ("--set", change)]
    command("train", recipe, "--images", str(asked.images), "--out", str(folder), *changes)
    return carrara.load(folder)


def check(models: dict[str, Model]) -> None:
    """Raises InputError where the models are not of one size, one data and as many images."""
    for what in ("training_images_seen", "data_fingerprint"):
        if len({model.facts[what] for model in models.values()}) > 1:
            raise InputError(f"the models differ in {what}; train them alike, in another folder with --runs")
    if len({model.parameters for model in models.values()}) > 1:
        raise InputError("the models differ in their number of parameters; give their recipes one network")


def said(model: Model, dataset: Dataset, n: int | None, way: dict[str, Any]) -> dict[str, float]:
    """The figures of one way to say the first n held-out words."""
    assert dataset.heldout.sources is not None
    sources, right = dataset.heldout.sources[:n], dataset.heldout.texts[:n]
    model.sample(source=sources[:BATCH], batch=BATCH, **way)
    start = time.perf_counter()
    given = model.sample(source=sources, batch=BATCH, **way)
    seconds = time.perf_counter() - start
    return {**wrong(model, given, right), "seconds": round(seconds, 3), "words_per_s": len(sources) / seconds}


def wrong(model: Model, given: list[str], right: list[str]) -> dict[str, float]:
    """How wrong words are, in sounds, words and tokens."""
    codec: Any = model.codec
    exact = errors(*([sounds(text) for text in texts] for texts in (given, right)))
    plain = errors(*([sounds(text, unstressed) for text in texts] for texts in (given, right)))
    mine, theirs = (torch.from_numpy(np.concatenate([*codec.windows(texts)])).long() for texts in (given, right))
    return {
        "per": exact.symbol_error,
        "per_without_stress": plain.symbol_error,
        "wer": exact.text_error,
        "token_accuracy": token_accuracy(mine, theirs, codec.end),
    }


def unstressed(text: str) -> str:
    """IPA without its marks of stress."""
    return text.replace("ˈ", "").replace("ˌ", "")


def sounds(text: str, change: Callable[[str], str] = str) -> list[str]:
    """The sounds of a word in IPA: "tʃˈaɪm" is tʃ, ˈaɪ, m."""
    return SOUND.findall(change(text))


def compared(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mask-Predict in 10 rounds beside the autoregressive model."""
    ours, theirs = found["mask_predict_10"], found["ar_greedy"]
    return {
        "per_over_ar": ours["per"] / theirs["per"],
        "speed_over_ar": ours["words_per_s"] / theirs["words_per_s"],
    }


def about(models: dict[str, Model], dataset: Dataset, n: int | None) -> dict[str, Any]:
    """What the figures are of."""
    facts = ("training_images_seen", "training_seconds")
    return {
        "n": len(dataset.heldout.texts[:n]),
        "batch": BATCH,
        "parameters": models["masked"].parameters,
        "training": {name: {fact: model.facts[fact] for fact in facts} for name, model in models.items()},
    }


if __name__ == "__main__":
    main()
