"""carrara's kernels in bfloat16, by matrix tiles where the processor has them and by vectors, beside torch's: `make bench-kernels`.

Whole networks, the default ones: the training step as `carrara train` takes it, and one evaluation, each way in turns in one run.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from benchmarks.result import report
from benchmarks.rivals.ours import learner
from benchmarks.rivals.rates import threads
from benchmarks.timing import Spread, interleaved
from carrara.cli.threads import keep_memory
from carrara.native import common
from carrara.recipe import read
from carrara.rng import Streams
from carrara.training.computing import Computing
from carrara.training.learner import Learner
from carrara.training.run import dataset_of

NETWORKS = {
    "unet": ("fashion", "network.depth=2"),
    "dit": ("fashion-dit",),
    "tokens": ("verse", "codec={kind: bytes, length: 128}"),
}
"""By name, the recipe whose network, batch and data are used, and what is changed of it."""
ALIKE = ("training.optimiser=adamw",)
"""In all: what an optimiser costs is no kernel's."""
ROUNDS = 7
TILES, VECTORS = 2, 1
NOTES = {
    "tiles": "whether this processor has matrix tiles, and may use them",
    "training": "of each network, examples a second of whole training steps, and over torch's in bfloat16",
    "evaluation": "the same of evaluations of the network",
    "batch": "examples a step, or an evaluation",
    "threads": "that compute",
    "rounds": "in which each way had its turn; median, least and most are of these",
}


class Way(NamedTuple):
    """How a network is computed."""

    computing: Computing
    factors: int | None = None
    """How our kernels take products of bfloat16; None: as they come."""


WAYS = {
    "tiles": Way(Computing("bf16", "native"), TILES),
    "vectors": Way(Computing("bf16", "native"), VECTORS),
    "float32": Way(Computing("float32", "native")),
    "torch": Way(Computing("bf16", "torch")),
}


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes itself")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    count = threads(asked.threads)
    keep_memory()
    has = common.usable() and common.factors() == TILES
    ways = {name: way for name, way in WAYS.items() if has or way.factors != TILES}
    found = {name: measured(words, ways, asked.rounds) for name, words in NETWORKS.items()}
    parts = {part: {name: each[part] for name, each in found.items()} for part in ("training", "evaluation", "batch")}
    report("kernels", {"tiles": has, **parts, "threads": count, "rounds": asked.rounds}, NOTES)


def measured(words: tuple[str, ...], ways: Mapping[str, Way], rounds: int) -> dict[str, Any]:
    """The rates of a recipe's network, in each way."""
    read_recipe = read(words[0], [*words[1:], *ALIKE])
    dataset = dataset_of(read_recipe)
    learners = {name: learner(read_recipe, dataset, way.computing) for name, way in ways.items()}
    batch = next(iter(learners.values())).settings.batch
    steps = {name: within(ways[name], partial(each.step, None)) for name, each in learners.items()}
    calls = {name: within(ways[name], evaluation(each, batch)) for name, each in learners.items()}
    return {
        "training": figures(interleaved(steps, rounds), batch),
        "evaluation": figures(interleaved(calls, rounds), batch),
        "batch": batch,
    }


def within(way: Way, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with products taken in this way."""

    def made() -> Any:
        with taken(way.factors):
            return call()

    return made


@contextmanager
def taken(factors: int | None) -> Iterator[None]:
    """Within, our kernels take products so."""
    if factors is None:
        yield
        return
    with patch.object(common, "factors", lambda: factors):
        yield


def evaluation(each: Learner, batch: int) -> Callable[[], Any]:
    """One evaluation of what a learner trains, at the middle of the way."""
    trainable: Any = each.trainable
    model = trainable.model
    process = model.denoiser.process
    x = process.prior(model.codec.shape(model.shape), Streams(range(batch)))
    cond, t = model.plan(batch, {})[1], torch.tensor(0.5, dtype=torch.float64)

    def call() -> Any:
        model.denoiser.eval()
        with torch.no_grad(), trainable.computing.within(model.denoiser.device):
            return model.denoiser(x, t, cond)

    return call


def figures(rates: Mapping[str, Spread], batch: int) -> dict[str, Any]:
    """Examples a second of each way, and over torch's in the same round: the median of the ratios."""
    theirs = rates["torch"]
    return {name: {**each.scaled(batch).as_dict(), "over_torch": over(each, theirs)} for name, each in rates.items()}


def over(ours: Spread, theirs: Spread) -> float:
    """The median of the rounds' ratios."""
    return float(f"{statistics.median(a / b for a, b in zip(ours.each, theirs.each, strict=True)):.4g}")


if __name__ == "__main__":
    main()
