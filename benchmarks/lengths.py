"""Minutes as images: recipes that are to be compared train as many minutes, each at its own rate on the idle machine.

The rates are measured once, side by side, the best of several rounds in each recipe's fastest precision and kernels, and kept. From
then on a minute is so many images of a recipe, so that a machine that is busy cannot change the result, and neither can training
in pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import carrara
from benchmarks.recipes import carrara as command
from benchmarks.rivals.ours import WAYS
from benchmarks.rivals.rates import fastest
from benchmarks.timing import interleaved
from carrara import about, files
from carrara.model import Model
from carrara.recipe import read
from carrara.training.computing import Computing
from carrara.training.learner import Learner
from carrara.training.run import dataset_of
from carrara.training.trainable import trainable_of
from carrara.training.world import World

ROUNDS = 4
NOTES = {
    "minutes": "of training, each at its own rate on the idle machine",
    "training": "of each model: images seen, the rate that turned minutes into images, precision and kernels, parameters",
}
Recipes = Mapping[str, Sequence[str]]
"""By name, the words after `carrara train` that make it: a recipe and changes with --set."""


def changed(recipes: Recipes, changes: Sequence[str]) -> dict[str, list[str]]:
    """The recipes, each with these changes `a.b=c` made."""
    return {
        name: [*words, *(word for change in changes for word in ("--set", change))] for name, words in recipes.items()
    }


def rates(recipes: Recipes, path: Path) -> dict[str, Any]:
    """By recipe words, mode, images_per_s, batch, and the rates of all modes; measured where one is not kept in `path`."""
    kept: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    if any(kept.get(name, {}).get("words") != list(words) for name, words in recipes.items()):
        kept = {"made": about.surroundings(), **raced(recipes)}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, kept)
    return kept


def raced(recipes: Recipes) -> dict[str, Any]:
    """The rates, from rounds in which each mode of each recipe has its turn."""
    learners = {(name, mode): learner(words, way) for name, words in recipes.items() for mode, way in WAYS.items()}
    spreads = interleaved({"/".join(key): partial(each.step, None) for key, each in learners.items()}, ROUNDS)
    found = {}
    for name, words in recipes.items():
        modes = {mode: (learners[name, mode].settings.batch, spreads[f"{name}/{mode}"]) for mode in WAYS}
        found[name] = {"words": list(words), **fastest(modes)}
    return found


def learner(words: Sequence[str], computing: Computing) -> Learner:
    """What `carrara train WORDS` trains with: learner.step(None) is one step."""
    recipe = read(words[0], words[2::2])
    settings = recipe.build("training")
    trainable = trainable_of(recipe, dataset_of(recipe), settings, World())
    trainable.computing = computing
    return Learner(trainable, settings, recipe.seed)


def images(rate: Mapping[str, Any], minutes: float) -> int:
    """The images of so many minutes, in whole batches, one at least."""
    return max(1, round(float(rate["images_per_s"]) * 60 * minutes / int(rate["batch"]))) * int(rate["batch"])


def trained(recipes: Recipes, minutes: float, runs: Path) -> dict[str, Model]:
    """The models, in runs/NAME, each trained for so many minutes where it is not yet; what was stopped goes on."""
    known = rates(recipes, runs / "rates.json")
    return {name: _trained(words, known[name], minutes, runs / name) for name, words in recipes.items()}


def _trained(words: Sequence[str], rate: Mapping[str, Any], minutes: float, run: Path) -> Model:
    way = WAYS[rate["mode"]].as_dict()
    mode = [word for key, value in way.items() for word in ("--set", f"training.{key}={value}")]
    command("train", *words, "--images", str(images(rate, minutes)), "--out", str(run), *mode)
    return carrara.load(run, backend="torch-bf16" if way["precision"] == "bf16" else "torch")


def told(models: Mapping[str, Model], runs: Path) -> dict[str, Any]:
    """What is to be said of the training of each model."""
    known = files.read_json(runs / "rates.json")
    facts = ("training_images_seen", "precision", "kernels", "data_fingerprint")
    return {
        name: {
            **{fact: model.facts[fact] for fact in facts},
            "images_per_s": known[name]["images_per_s"],
            "parameters": model.parameters,
        }
        for name, model in models.items()
    }
