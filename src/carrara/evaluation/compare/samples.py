"""A model's samples, drawn in blocks, each kept as soon as it is there, with what they cost.

What was stopped goes on at the first block that is missing. A block is drawn as a whole, so its bits do not depend on where
the work was stopped; it is known by what decides it: weights, seeds, classes, settings and the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara.backends import TORCH
from carrara.evaluation import cache
from carrara.evaluation.inputs import Counter
from carrara.evaluation.settings import samples_key, told, weights_sha256
from carrara.model import seeds_of
from carrara.sampling import Sampling, part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrara.model import Model

BLOCK = 64
"""Samples of a block, or the whole number of batches that is nearest below; at least one batch."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is to be drawn from one model, and where it is kept."""

    model: Model
    sampling: Sampling
    cond: Any
    seeds: Sequence[int]
    batch: int
    folder: Path
    weights: str = field(repr=False)

    @classmethod
    def of(cls, model: Model, n: int, seed: int, batch: int, folder: Path, wishes: Mapping[str, Any]) -> Drawing:
        """Of n samples, seeds `seed` …, classes in turn unless a label is wished for. Raises InputError as `Model.plan`."""
        sampling, cond = model.plan(n, wishes)
        return cls(model, sampling, cond, seeds_of(n, seed, None), batch, folder, weights_sha256(model))

    @property
    def backend(self) -> str:
        """What computes the network."""
        running = self.model.backend
        return TORCH if running is None else running.name

    @property
    def labels(self) -> Tensor | None:
        """The class each sample is asked to show (n,); None without classes."""
        return None if self.cond is None else self.cond.get("label")

    def blocks(self) -> list[slice]:
        """The rows of each block."""
        size, n = self.batch * max(1, BLOCK // self.batch), len(self.seeds)
        return [slice(first, min(first + size, n)) for first in range(0, n, size)]

    def missing(self) -> list[slice]:
        """The blocks that are still to be drawn."""
        return [rows for rows in self.blocks() if cache.find(self.key(rows), self.folder) is None]

    def key(self, rows: slice) -> cache.Key:
        """What decides a block."""
        labels = None if self.labels is None else self.labels[rows].tolist()
        own = samples_key(self.weights, self.seeds[rows], labels, self.sampling)
        if told_of := told(part(self.cond, rows)):
            own = {**own, "told": told_of}
        return {**own, "batch": self.batch, "backend": self.backend}

    def fill(self, counter: Counter) -> None:
        """Draws and keeps every missing block; the counter counts steps of one sample."""
        for rows in self.missing():
            cache.keep(self.key(rows), self._drawn(rows, counter), self.folder)

    def samples(self, n: int | None = None) -> Tensor:
        """The first n samples (None: all), uint8 (n, C, H, W)."""
        blocks = [rows for rows in self.blocks() if n is None or rows.start < n]
        return torch.cat([self._kept(rows)["samples"] for rows in blocks])[:n]

    def cost(self) -> dict[str, Any]:
        """What a sample costs, as measured when it was drawn, and the model itself, as far as its card tells."""
        kept, facts = [self._kept(rows) for rows in self.blocks()], self.model.facts
        seconds = sum(float(block["seconds"]) for block in kept)
        return {
            "parameters": self.model.parameters,
            "evaluations_per_sample": self.sampling.passes(),
            "seconds_per_sample": seconds / len(self.seeds),
            "batch": self.batch,
            "backend": self.backend,
            "threads": max(int(block["threads"]) for block in kept),
            "training_seconds": facts.get("training_seconds"),
            "training_images_seen": facts.get("training_images_seen"),
        }

    def _kept(self, rows: slice) -> cache.Tensors:
        """A block; drawn again where its file has been lost or damaged since."""
        return cache.kept(self.key(rows), self.folder, lambda: self._drawn(rows, Counter(0, None)))

    def _drawn(self, rows: slice, counter: Counter) -> cache.Tensors:
        start = time.perf_counter()
        made = [self._batch(some, counter) for some in self._batches(rows)]
        seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
        return {"samples": torch.cat(made), "seconds": seconds, "threads": torch.tensor(torch.get_num_threads())}

    def _batches(self, rows: slice) -> Iterator[slice]:
        for first in range(rows.start, rows.stop, self.batch):
            yield slice(first, min(first + self.batch, rows.stop))

    def _batch(self, rows: slice, counter: Counter) -> Tensor:
        for step in self.model.walk(self.seeds[rows], part(self.cond, rows), self.sampling):
            last = step.x
            counter.advance(rows.stop - rows.start)
        pictures: Tensor = self.model.codec.decode(last)
        return pictures.cpu()
