"""Minutes as images: recipes that are to be compared train as many minutes, each at its own rate on the idle machine.

The rates are measured once, side by side (that of a recipe which comes later by itself), the best of several rounds in each
recipe's fastest precision and kernels, and kept. From then on a minute is so many images of a recipe, so that a machine that is
busy cannot change the result, and neither can training in pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import carrara
from benchmarks.recipes import carrara as command
from benchmarks.rivals.ours import WAYS, learner
from benchmarks.rivals.rates import fastest
from benchmarks.timing import interleaved
from carrara import about, files
from carrara.model import Model
from carrara.recipe import read
from carrara.training.computing import Computing
from carrara.training.run import dataset_of

ROUNDS = 4
NOTES = {
    "minutes": "of training, each at its own rate on the idle machine",
    "training": "of each model: images seen, the rate that turned minutes into images, precision and kernels, parameters",
}
Recipes = Mapping[str, Sequence[str]]
"""By name, the words after `carrara train` that make it: a recipe and changes with --set."""
Ways = Mapping[str, Computing]
"""By name, what training computes in."""


def changed(recipes: Recipes, changes: Sequence[str]) -> dict[str, list[str]]:
    """The recipes, each with these changes `a.b=c` made."""
    return {
        name: [*words, *(word for change in changes for word in ("--set", change))] for name, words in recipes.items()
    }


def rates(recipes: Recipes, path: Path, ways: Ways = WAYS) -> dict[str, Any]:
    """By recipe words, parameters, mode, images_per_s, batch, the rates of all modes; measured where one is not kept in `path`."""
    kept: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    new = {name: words for name, words in recipes.items() if kept.get(name, {}).get("words") != list(words)}
    if new:
        kept = {**kept, "made": about.surroundings(), **raced(new, ways)}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, kept)
    return kept


def raced(recipes: Recipes, ways: Ways) -> dict[str, Any]:
    """The rates, from rounds in which each way of each recipe has its turn."""
    known = {name: read(words[0], words[2::2]) for name, words in recipes.items()}
    learners = {
        (name, mode): learner(recipe, dataset_of(recipe), way)
        for name, recipe in known.items()
        for mode, way in ways.items()
    }
    spreads = interleaved({"/".join(key): partial(each.step, None) for key, each in learners.items()}, ROUNDS)
    found = {}
    for name, words in recipes.items():
        mine = {mode: learners[name, mode] for mode in ways}
        modes = {mode: (each.settings.batch, spreads[f"{name}/{mode}"]) for mode, each in mine.items()}
        first = next(iter(mine.values()))
        count = sum(p.numel() for player in first.parameters.values() for p in player.values())
        found[name] = {"words": list(words), "parameters": count, **fastest(modes)}
    return found


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
