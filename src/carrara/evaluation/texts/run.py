"""The runner of studies of texts: each cell is sampled from the same seeds and beginnings, kept, and measured.

Windows of packed text are given their first quarter from held-out windows, and what follows is measured: the model's beside the
real one. Rows, a text each, are made from nothing. A cell's tokens are kept as soon as they are drawn, so what was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara import about, files
from carrara.editing import Edit
from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.inputs import Counter, shuffled
from carrara.evaluation.settings import Report, plain, samples_key, weights_sha256
from carrara.evaluation.studies.study import Cell, Study
from carrara.evaluation.texts.beside import whole
from carrara.evaluation.texts.figures import Looked
from carrara.evaluation.texts.judges import Judge, judge_of
from carrara.evaluation.texts.words import shuffled_words
from carrara.model import Model, seeds_of
from carrara.sampling import Sampling, part
from carrara.training.examples import examples_of

if TYPE_CHECKING:
    from carrara.data import Dataset

N = 200
SHOWN = 3
"""Texts of each cell that the page shows."""
GIVEN = 4
"""One of so many parts of a window is given."""
SAMPLING = "sampling, texts"


@dataclass(frozen=True)
class TextPlan:
    """Everything that a study of texts is about to do, checked."""

    study: Study
    model: Model
    dataset: Dataset
    cells: Sequence[tuple[Cell, Sampling]]
    cond: Any
    seeds: Sequence[int]
    real: Tensor = field(repr=False)
    """Held-out windows (n, L)."""
    given: int
    """The tokens at the beginning of each that samples go on with."""
    judge: Judge
    folder: Path
    batch: int
    weights: str = field(repr=False)

    @property
    def n(self) -> int:
        """Samples in each cell."""
        return len(self.seeds)

    @property
    def ways(self) -> int:
        """How many ways of sampling there are."""
        return len(self.cells)

    def key(self, sampling: Sampling) -> cache.Key:
        """What decides a cell's tokens."""
        cond = {} if self.cond is None else {name: value.tolist() for name, value in sorted(self.cond.items())}
        data: cache.Key = {
            **{f"cond {name}": json.dumps(value) for name, value in cond.items() if name != "label"},
            "data": self.dataset.fingerprint,
            "codec": self.model.codec.identity(),
            "given": self.given,
        }
        return {**samples_key(self.weights, self.seeds, cond.get("label"), sampling), **data}

    def missing(self) -> list[Sampling]:
        """The ways of sampling that are still to be sampled."""
        return [sampling for _, sampling in self.cells if cache.find(self.key(sampling), self.folder) is None]

    def texts(self, ids: Tensor) -> list[str]:
        """What is measured of windows (N, L): what comes after what was given."""
        return whole(self.model.codec.decode(ids[:, self.given :]), self.model.codec)


def planned(
    study: Study,
    model: Model,
    dataset: Dataset,
    folder: Path,
    n: int | None = None,
    values: Sequence[float] | None = None,
    judge: Judge | str | Path | None = None,
    seed: int = 0,
    batch: int = 64,
    **wishes: Any,
) -> TextPlan:
    """The TextPlan of a study of n samples a cell (None: N, or as many as there are held-out windows), kept in `folder`.

    `wishes` go to `Model.plan` with each cell's own; guidance is off unless it is wished for. Raises InputError for whatever
    cannot be done, before anything is.
    """
    for name in sorted(set(wishes) & set(study.sets)):
        raise InputError(f"the study {study.name!r} sets {name} itself, cell by cell; leave it out")
    _, heldout = examples_of(dataset, model.codec)
    n = min(N, len(heldout)) if n is None else n
    if not 1 <= n <= len(heldout):
        raise InputError(
            f"{n} samples a cell were asked for; {dataset.name} has {len(heldout)} held-out windows to compare them with: ask for "
            "no more than that"
        )
    packed = getattr(model.codec, "layout", "") == "packed"
    found = study.cells(model, study.values if values is None else values)
    cells = [(cell, *model.plan(n, {"guidance_scale": 1.0, **wishes, **cell.wishes})) for cell in found]
    real: Tensor = heldout.batch(shuffled(len(heldout), n))["x0"]
    return TextPlan(
        study,
        model,
        dataset,
        [(cell, sampling) for cell, sampling, _ in cells],
        cells[0][2],
        seeds_of(n, seed, None),
        real,
        real.shape[1] // GIVEN if packed else 0,
        judge_of(judge),
        files.writable_folder(folder / study.name),
        batch,
        weights_sha256(model),
    )


def run(plan: TextPlan, progress: Report | None = None) -> dict[str, Any]:
    """The results, as plain data ready for JSON: the settings, a record of each cell, and of held-out and of shuffled text."""
    report: Report = progress or (lambda stage, done, total: None)
    missing = plan.missing()
    counter = Counter(plan.n * len(missing), lambda done, total: report(SAMPLING, done, total))
    for sampling in missing:
        cache.keep(plan.key(sampling), draw(plan, sampling, counter), plan.folder)
    records = []
    for index, (cell, sampling) in enumerate(plan.cells):
        records.append(record(plan, cell, sampling))
        report("measuring, cells", index + 1, len(plan.cells))
    return {**_settings(plan), "cells": records}


def draw(plan: TextPlan, sampling: Sampling, counter: Counter) -> cache.Tensors:
    """A cell's tokens (n, L), and the seconds they took."""
    start, made = time.perf_counter(), []
    for first in range(0, plan.n, plan.batch):
        rows = slice(first, first + plan.batch)
        seeds = plan.seeds[rows]
        for step in plan.model.walk(seeds, part(plan.cond, rows), sampling, _begun(plan, rows)):
            last = step
        made.append(last.x.cpu())
        counter.advance(len(seeds))
    return {"ids": torch.cat(made), "seconds": torch.tensor(time.perf_counter() - start, dtype=torch.float64)}


def _begun(plan: TextPlan, rows: slice) -> Edit | None:
    """What samples go on with; None where they are made from nothing."""
    if not plan.given:
        return None
    real = plan.real[rows]
    return Edit(real, (torch.arange(real.shape[1]) >= plan.given).expand_as(real), 1.0)


def record(plan: TextPlan, cell: Cell, sampling: Sampling) -> dict[str, Any]:
    """One cell's settings and figures."""
    drawn = tokens_of(plan, sampling)
    return {
        "line": cell.line,
        "x": cell.x,
        **{name: plain(getattr(sampling, name)) for name in plan.study.sets},
        **Looked(plan.texts(drawn["ids"]), plan.judge).figures(plan.study.measures),
        "seconds": round(float(drawn["seconds"]), 3),
    }


def tokens_of(plan: TextPlan, sampling: Sampling) -> cache.Tensors:
    """A cell's kept tokens; drawn again where their file has been lost or damaged since."""
    return cache.kept(plan.key(sampling), plan.folder, lambda: draw(plan, sampling, Counter(0, None)))


def _settings(plan: TextPlan) -> dict[str, Any]:
    """All that the cells share."""
    sampling = plain(dataclasses.asdict(plan.cells[0][1]))
    real = plan.texts(plan.real)
    return {
        **about.surroundings(),
        "study": plan.study.name,
        "model": plan.model.recipe.name,
        "weights_sha256": plan.weights,
        "data": plan.dataset.name,
        "data_fingerprint": plan.dataset.fingerprint,
        "n": plan.n,
        "seed": plan.seeds[0],
        "given_tokens": plan.given,
        "window_tokens": plan.real.shape[1],
        "judge": plan.judge.name,
        "judge_sha256": plan.judge.sha256,
        "unit": plan.judge.unit,
        "sampling": {name: value for name, value in sampling.items() if name not in plan.study.sets},
        "axis": plan.study.axis,
        "values": list(dict.fromkeys(cell.x for cell, _ in plan.cells)),
        "heldout": Looked(real, plan.judge).figures(plan.study.measures),
        "noise": Looked(shuffled_words(real), plan.judge).figures(plan.study.measures),
    }


def sheets(plan: TextPlan) -> dict[str, list[str]]:
    """The first texts of every cell, what was given before a bar, and of held-out text; by the cell's line and value."""
    found = {"held out": shown(plan, plan.real)}
    for cell, sampling in plan.cells:
        found[f"{cell.line}, {plan.study.axis} {cell.x:g}"] = shown(plan, tokens_of(plan, sampling)["ids"])
    return found


def shown(plan: TextPlan, ids: Tensor) -> list[str]:
    """The first windows of (N, L) as they are read."""
    decode, rows = plan.model.codec.decode, ids[:SHOWN]
    if not plan.given:
        return list(decode(rows))
    halves = zip(decode(rows[:, : plan.given]), decode(rows[:, plan.given :]), strict=True)
    return [f"{before} | {after}" for before, after in halves]
