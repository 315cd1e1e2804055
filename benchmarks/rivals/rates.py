"""How many images a second each contestant trains on, in its fastest mode: what turns minutes into images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.rivals.contestants import CONTESTANTS, OURS
from benchmarks.rivals.ours import WAYS, learner, recipe_of
from benchmarks.rivals.pictures import training_batch
from benchmarks.rivals.rival import MODES, Rival
from benchmarks.timing import Spread, interleaved
from carrara import about, files
from carrara.data import Dataset
from carrara.recipe import read

ROUNDS = 5
Steps = dict[tuple[str, str], tuple[int, Callable[[], Any]]]
"""By contestant and mode: the images of a step, and the step."""


def rates(dataset: Dataset, path: Path, again: bool = False) -> dict[str, Any]:
    """For each contestant mode, images_per_s, batch, parameters and the rates of all modes; measured once, kept in `path`."""
    kept = files.read_json(path) if path.is_file() else {}
    if again or dataset.name not in kept:
        kept[dataset.name] = measured(dataset)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, kept)
    found: dict[str, Any] = kept[dataset.name]
    return found


def measured(dataset: Dataset) -> dict[str, Any]:
    """The rates of all contestants, in rounds in which each mode of each has its turn."""
    steps, parameters = contestants(dataset)
    spreads = interleaved({"/".join(key): step for key, (_, step) in steps.items()}, ROUNDS)
    found: dict[str, Any] = {"made": about.surroundings()}
    for name, count in parameters.items():
        modes = {mode: (steps[name, mode][0], spreads["/".join((name, mode))]) for who, mode in steps if who == name}
        found[name] = {"parameters": count, **fastest(modes)}
    return found


def fastest(modes: dict[str, tuple[int, Spread]]) -> dict[str, Any]:
    """The fastest mode, from (images of a step, steps a second) of each mode; the rates of all in images a second.

    The rate of a mode is that of its best round: another process can only make a round slower.
    """
    best = max(modes, key=lambda mode: modes[mode][0] * modes[mode][1].most)
    batch = modes[best][0]
    every = {mode: steps.scaled(count).as_dict() for mode, (count, steps) in modes.items()}
    return {"mode": best, "images_per_s": every[best]["most"], "batch": batch, "modes": every}


def contestants(dataset: Dataset) -> tuple[Steps, dict[str, int]]:
    """The training steps of all contestants in all modes, and each contestant's number of parameters."""
    steps: Steps = {}
    parameters: dict[str, int] = {}
    for name, make in CONTESTANTS.items():
        for mode in MODES.values():
            rival = make(dataset, 1_000_000, mode)
            parameters[name] = rival.parameters
            steps[name, mode.name] = rival.batch, partial(next_step, rival, dataset)
    for name, computing in WAYS.items():
        ours = learner(read(recipe_of(dataset.name)), dataset, computing)
        parameters[OURS] = sum(p.numel() for p in ours.parameters["denoiser"].values())
        steps[OURS, name] = ours.settings.batch, partial(ours.step, None)
    return steps, parameters


def next_step(rival: Rival, dataset: Dataset) -> float:
    """A rival's loss on its next batch, which is taken from the dataset as in a run."""
    return rival.train_step(*training_batch(dataset, 0, rival.images, rival.batch))


def threads(count: int | None) -> int:
    """Sets torch's threads where a number is given; those it has."""
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def ours_again(dataset: Dataset, path: Path, was: Sequence[str]) -> None:
    """Keeps our rate as the recipe is now: the kept one, of the recipe with the changes `was`, times now over then, side by side.

    So a rate stands beside its peers' though another machine measured them: what a change of ours costs there, it costs here.
    """
    kept = files.read_json(path)
    rate = kept[dataset.name][OURS]
    ways = {"then": read(recipe_of(dataset.name), list(was)), "now": read(recipe_of(dataset.name))}
    steps = {name: partial(learner(recipe, dataset, WAYS[rate["mode"]]).step, None) for name, recipe in ways.items()}
    spreads = interleaved(steps, 3 * ROUNDS)
    ratio = statistics.median(now / then for now, then in zip(spreads["now"].each, spreads["then"].each, strict=True))
    before = rate.get("then", rate)["images_per_s"]
    then = {
        "changes": list(was),
        "images_per_s": before,
        "now_over_then": ratio,
        "made": about.surroundings(),
    }
    rate |= {"images_per_s": float(f"{before * ratio:.4g}"), "then": then}
    files.write_json(path, kept)
