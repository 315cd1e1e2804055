"""The runner of studies: samples and measures cell by cell, and keeps each cell as soon as it is there.

A cell's samples are kept under what decides them (weights, seeds, labels, settings), its figures also under what they were
measured with. So a study that was stopped goes on, one that is done is read, and one with other values, or measured with
other features, samples nothing twice.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara import about, files
from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.inputs import Counter, batches, gathered, shuffled
from carrara.evaluation.measure import BATCH
from carrara.evaluation.prompts import classes_of, wishes_of
from carrara.evaluation.settings import plain, samples_key, told, weights_sha256
from carrara.evaluation.studies.ground import Figures, Ground
from carrara.evaluation.studies.study import Cell, Study
from carrara.model import Model, seeds_of
from carrara.sampling import Sampling, part
from carrara.schedules import Schedule

if TYPE_CHECKING:
    from carrara.data import Dataset

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""

FOLDER = "studies"
N = 500
SAMPLING = "sampling, steps of one picture"
SHOWN = 12
"""Samples of each cell that the page shows."""
TOGETHER = 4
"""Of these, samples of one class."""


@dataclass(frozen=True)
class Plan:
    """Everything that a study is about to do, checked."""

    study: Study
    model: Model
    dataset: Dataset
    cells: Sequence[tuple[Cell, Sampling]]
    cond: Any
    seeds: Sequence[int]
    features: Features
    folder: Path
    """Where the cells are kept."""
    batch: int
    weights: str = field(repr=False)
    classes: Tensor | None = None
    """The classes of what samples are asked for in words (n,), where those are known."""

    @property
    def n(self) -> int:
        """Samples in each cell."""
        return len(self.seeds)

    @property
    def labels(self) -> Tensor | None:
        """The class each sample is asked to show (n,); None without classes."""
        return None if self.cond is None else self.cond.get("label", self.classes)

    def samples_key(self, sampling: Sampling) -> cache.Key:
        """What decides a cell's samples."""
        labels = None if self.labels is None else self.labels.tolist()
        own = samples_key(self.weights, self.seeds, labels, sampling)
        return {**own, "told": self.told} if self.told else own

    @cached_property
    def told(self) -> str:
        """What decides what samples are told beside their classes."""
        return told(self.cond)

    def figures_key(self, cell: Cell, sampling: Sampling) -> cache.Key:
        """What decides a cell's figures."""
        first: cache.Key = {} if cell.n is None else {"n": cell.n}
        return {
            **first,
            **self.samples_key(sampling),
            "what": "figures",
            "measures": ",".join(self.study.measures),
            "data": self.dataset.fingerprint,
            "features": f"{self.features.name} {self.features.sha256} {self.features.resizer}",
        }

    def missing(self) -> list[Sampling]:
        """The ways of sampling that are still to be sampled, each once."""
        ways = {self.samples_key(s)["asked"]: s for _, s in self.cells}
        return [s for s in ways.values() if cache.find(self.samples_key(s), self.folder) is None]

    @property
    def ways(self) -> int:
        """How many different ways of sampling there are."""
        return len({self.samples_key(s)["asked"] for _, s in self.cells})


def planned(
    study: Study,
    model: Model,
    dataset: Dataset,
    folder: Path,
    n: int | None = None,
    values: Sequence[float] | None = None,
    features: Features | str = "efficientnet",
    seed: int = 0,
    batch: int = 64,
    **wishes: Any,
) -> Plan:
    """The Plan of a study of n samples a cell (None: N, or as many as there are held-out pictures), kept in `folder`.

    `wishes` go to `Model.plan` with each cell's own; guidance is off unless it is wished for.
    Raises InputError for whatever cannot be done, before anything is.
    """
    n = count_of(study, dataset, values) if n is None else n
    for name in sorted(set(wishes) & set(study.sets)):
        raise InputError(f"the study {study.name!r} sets {name} itself, cell by cell; leave it out")
    if tuple(model.shape) != tuple(dataset.shape):
        raise InputError(f"the model makes pictures {model.shape}, and {dataset.name} has pictures {dataset.shape}")
    if not 4 < n <= min(len(dataset.heldout), len(dataset.train)):
        raise InputError(
            f"{n} samples a cell were asked for; this study needs 5 or more, and no more than {dataset.name} has "
            f"held-out pictures, {len(dataset.heldout)}"
        )
    seeds = seeds_of(n, seed, None)
    wishes = wishes_of(model, dataset, n, wishes)
    common = wishes if study.guided else {"guidance_scale": 1.0, **wishes}
    found = study.cells(model, study.usual(n) if values is None else values)
    check_sizes(found, n)
    cells = [(cell, *model.plan(n, {**common, **cell.wishes})) for cell in found]
    loaded = load_features(features) if isinstance(features, str) else features
    each = [(cell, sampling) for cell, sampling, _ in cells]
    files.writable_folder(folder / study.name)
    classes = classes_of(dataset, n, wishes)
    return Plan(
        study,
        model,
        dataset,
        each,
        cells[0][2],
        seeds,
        loaded,
        folder / study.name,
        batch,
        weights_sha256(model),
        classes,
    )


def count_of(study: Study, dataset: Dataset, values: Sequence[float] | None) -> int:
    """How many samples a cell has where nobody said: as its greatest value says, or N where the data has so many."""
    return int(max(values)) if study.sizes is not None and values else min(N, len(dataset.heldout))


def check_sizes(cells: Sequence[Cell], n: int) -> None:
    """Raises InputError where a cell is to have more than n samples."""
    most = max((cell.n or 0 for cell in cells), default=0)
    if most > n:
        raise InputError(
            f"{most} of {n} samples cannot be measured: ask for {most} samples or more, or leave that size out"
        )


def run(plan: Plan, progress: Report | None = None) -> dict[str, Any]:
    """The results, as plain data ready for JSON: the settings, a record of each cell, and of real pictures and noise.

    Each cell is kept in the plan's folder as soon as it is sampled, and again when it is measured; what is there already
    is read. Progress counts steps of one sample each, then real pictures, then cells.
    """
    report: Report = progress or (lambda stage, done, total: None)
    sample(plan, report)
    ground = Ground.of(plan.dataset, plan.n, plan.features, lambda done, total: report("real pictures", done, total))
    variance, records = data_variance(plan), []
    for index, (cell, sampling) in enumerate(plan.cells):
        records.append(record(plan, ground, variance, cell, sampling))
        report("measuring, cells", index + 1, len(plan.cells))
    return {**settings(plan, ground), "cells": records}


def settings(plan: Plan, ground: Ground) -> dict[str, Any]:
    """All that the cells share."""
    sampling = plain(dataclasses.asdict(plan.cells[0][1]))
    measures = plan.study.measures
    return {
        **about.surroundings(),
        "study": plan.study.name,
        "model": plan.model.recipe.name,
        "weights_sha256": plan.weights,
        "data": plan.dataset.name,
        "data_fingerprint": plan.dataset.fingerprint,
        "n": plan.n,
        "seed": plan.seeds[0],
        "features": plan.features.name,
        "features_sha256": plan.features.sha256,
        "resizer": plan.features.resizer,
        "reference": ground.yardstick.reference,
        "k": ground.real.k,
        "sampling": {name: value for name, value in sampling.items() if name not in plan.study.sets},
        "axis": plan.study.axis,
        "values": list(dict.fromkeys(cell.x for cell, _ in plan.cells)),
        "heldout": ground.heldout(measures),
        "noise": ground.noise(measures),
    }


def record(plan: Plan, ground: Ground, variance: float, cell: Cell, sampling: Sampling) -> dict[str, Any]:
    """One cell's settings, figures and path: the spread of x_s beside what it should be for data of that variance."""
    drawn = samples_of(plan, sampling)
    expected = expected_spread(plan.model.denoiser.process.schedule, variance, drawn["times"])
    return {
        "line": cell.line,
        "x": cell.x,
        **{name: plain(getattr(sampling, name)) for name in plan.study.sets},
        **({} if cell.n is None else {"n": cell.n}),
        **figures_of(plan, ground, cell, sampling, drawn["samples"][: cell.n]),
        "seconds": round(float(drawn["seconds"]), 3),
        "path": {"s": drawn["times"].tolist(), "spread": drawn["spread"].tolist(), "expected": expected.tolist()},
    }


# --- samples ---------------------------------------------------------------------------------------------------------


def sample(plan: Plan, report: Report) -> None:
    """Draws and keeps the samples of every cell that has none yet."""
    missing = plan.missing()
    counter = Counter(sum(plan.n * s.steps for s in missing), lambda done, total: report(SAMPLING, done, total))
    for sampling in missing:
        cache.keep(plan.samples_key(sampling), draw(plan, sampling, counter), plan.folder)


def draw(plan: Plan, sampling: Sampling, counter: Counter) -> cache.Tensors:
    """A cell's samples, uint8 (n, C, H, W), the times of its steps, and the spread of x_s at each of them."""
    start, pictures = time.perf_counter(), []
    ways = [Way() for _ in range(sampling.steps)]
    for rows in (slice(first, first + plan.batch) for first in range(0, plan.n, plan.batch)):
        seeds = plan.seeds[rows]
        for step in plan.model.walk(seeds, part(plan.cond, rows), sampling):
            ways[step.index].add(step.s, step.x)
            counter.advance(len(seeds))
        pictures.append(plan.model.codec.decode(step.x).cpu())
    return {
        "samples": torch.cat(pictures),
        "times": torch.stack([way.s for way in ways]),
        "spread": torch.stack([way.spread() for way in ways]),
        "seconds": torch.tensor(time.perf_counter() - start, dtype=torch.float64),
    }


class Way:
    """The standard deviation of x_s over all samples, at one step."""

    def __init__(self) -> None:
        self.n = 0
        self.s = self.sum = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, s: Tensor, x: Tensor) -> None:
        """Takes in a batch x (B, *) at time s."""
        x = x.detach().cpu().double()
        self.n, self.s = self.n + len(x), s.detach().cpu().double()
        self.sum, self.squares = self.sum + x.sum(0), self.squares + x.square().sum(0)

    def spread(self) -> Tensor:
        """Root mean square over the pixels of the standard deviation over the samples."""
        variance = self.squares / self.n - (self.sum / self.n).square()
        return variance.clamp(min=0).mean().sqrt()


def samples_of(plan: Plan, sampling: Sampling) -> cache.Tensors:
    """A cell's kept samples; drawn again where their file has been lost or damaged since."""
    return cache.kept(plan.samples_key(sampling), plan.folder, lambda: draw(plan, sampling, Counter(0, None)))


def data_variance(plan: Plan, limit: int = 2000) -> float:
    """The variance of a pixel of x0 over training pictures, its mean over the pixels."""
    media, data = plan.dataset.train.pictures, Way()
    for rows in batches(torch.from_numpy(shuffled(len(media), limit)), BATCH):
        data.add(torch.zeros(()), plan.model.codec.encode(gathered(media, rows.numpy())))
    return float(data.spread()) ** 2


def expected_spread(schedule: Schedule, variance: float, times: Tensor) -> Tensor:
    """√(alpha² variance + sigma²) at the times (K,): the spread of x_s under the forward process."""
    return (schedule.alpha(times) ** 2 * variance + schedule.sigma(times) ** 2).sqrt()


# --- figures ---------------------------------------------------------------------------------------------------------


def figures_of(plan: Plan, ground: Ground, cell: Cell, sampling: Sampling, samples: Tensor) -> Figures:
    """A cell's figures, measured once and kept; None is kept as NaN."""

    def measure() -> cache.Tensors:
        labels = None if plan.labels is None else plan.labels[: len(samples)]
        found = ground.figures(samples, labels, plan.study.measures)
        numbers = {name: float("nan") if value is None else value for name, value in found.items()}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}

    tensors = cache.kept(plan.figures_key(cell, sampling), plan.folder, measure)
    return {name: None if tensors[name].isnan() else float(tensors[name]) for name in plan.study.measures}


def shown(labels: Tensor | None, n: int) -> list[int]:
    """Which of n samples the page shows: the first ones, or with classes the first ones of each of the first classes."""
    if labels is None:
        return list(range(n))[:SHOWN]
    classes = labels.tolist()
    found = [[i for i in range(n) if classes[i] == name][:TOGETHER] for name in sorted(set(classes))]
    return [index for rows in found for index in rows][:SHOWN]


def sheets(plan: Plan) -> dict[float, Tensor]:
    """For each value the same few samples of every line, (lines · shown, C, H, W), the lines in turn.

    Of cells that are parts of one set of samples, the last is shown.
    """
    rows: dict[float, list[Tensor]] = {}
    chosen = shown(plan.labels, plan.n)
    last = max((cell.n for cell, _ in plan.cells if cell.n is not None), default=None)
    for cell, sampling in plan.cells:
        if cell.n != last:
            continue
        rows.setdefault(cell.x, []).append(samples_of(plan, sampling)["samples"][chosen])
    return {x: torch.cat(pictures) for x, pictures in rows.items()}
