"""What makes the best pictures of a minute's training: widths, depths, stems, patches and optimisers, side by side.

`make bench-architecture`. As in benchmarks.quality, the rate of each candidate is measured first, on the idle machine, and kept;
from then on a minute is so many images. Each candidate is a recipe with its changes, trained for MINUTES, sampled by the
recipe's sampler, and measured by the one Fréchet distance. Stopped and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import lengths
from benchmarks.quality import complete, distance, trained_samples
from benchmarks.result import report
from benchmarks.rivals.rates import threads
from carrara.cli.threads import keep_memory
from carrara.data import Dataset
from carrara.evaluation.measure import yardstick
from carrara.recipe import read
from carrara.training.computing import PRECISIONS, Computing
from carrara.training.run import dataset_of

OWN: dict[str, Computing] = {precision: Computing(precision, "native") for precision in PRECISIONS}
"""What candidates compute in: our own kernels."""
ADAMW = {"training.optimiser": "adamw", "training.lr": 0.001}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("fashion", {}),
    "unet, AdamW": ("fashion", ADAMW),
    "unet, batch 128": ("fashion", {"training.batch": 128, "training.lr": 0.006}),
    "unet, width 48": ("fashion", {"network.width": 48}),
    "unet, width 96": ("fashion", {"network.width": 96}),
    "unet, depth 1": ("fashion", {"network.depth": 1}),
    "unet, depth 1, width 96": ("fashion", {"network.depth": 1, "network.width": 96}),
    "unet, depth 3": ("fashion", {"network.depth": 3}),
    "unet, no stem, width 32": ("fashion", {"network.fold": 1, "network.width": 32}),
    "unet, stem of 4×4, width 128": ("fashion", {"network.fold": 4, "network.width": 128}),
    "dit": ("fashion-dit", {}),
    "dit, AdamW": ("fashion-dit", ADAMW),
    "dit, width 384, depth 6": ("fashion-dit", {"network.width": 384, "network.depth": 6}),
    "dit, patch 2, width 128": ("fashion-dit", {"network.patch": 2, "network.width": 128, "network.depth": 6}),
}
"""By name: the recipe and what is changed of it."""
NOTES = {
    "rows": "a candidate each: images are MINUTES at its own rate, that of its best round in its fastest precision",
    "means": "of the seeds' distances, by minutes of training on the idle machine",
    "images_per_s": "of training on the idle machine, of all candidates",
    "n": "pictures behind each distance",
    "floor": "the Fréchet distance of held-out pictures",
    "ceiling": "the same for uniform noise",
    "best": "the candidate of the least mean after the longest time",
}


def main() -> None:
    """Trains, samples and measures what is missing, reports."""
    args = arguments()
    threads(args.threads)
    keep_memory()
    dataset = dataset_of(read("fashion"))
    rates = lengths.rates({name: words_of(name) for name in CANDIDATES}, args.runs / "rates.json", OWN)
    asked = product(args.minutes, args.seeds, args.only or CANDIDATES)
    rows = [row(dataset, rates, name, minutes, seed, args) for minutes, seed, name in asked]
    conclude([found for found in rows if found], rates, dataset, args)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, help="candidates to train")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[0])
    parser.add_argument("--minutes", type=lambda text: [float(word) for word in text.split(",")], default=[2.0])
    parser.add_argument("-n", type=int, default=1000, help="samples of each")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes itself")
    parser.add_argument("--runs", type=Path, default=Path("runs/architecture"), help="where everything is kept")
    parser.add_argument("--report-only", action="store_true", help="nothing is trained or sampled")
    return parser.parse_args()


def words_of(name: str) -> list[str]:
    """The words after `carrara train` that make a candidate."""
    recipe, options = CANDIDATES[name]
    return [recipe, *(word for key, value in options.items() for word in ("--set", f"{key}={value}"))]


def row(
    dataset: Dataset, rates: dict[str, Any], name: str, minutes: float, seed: int, args: argparse.Namespace
) -> dict[str, Any] | None:
    """A candidate's figures, trained and sampled first where they are missing; None where that is not asked for."""
    rate = rates[name]
    images = lengths.images(rate, minutes)
    run = args.runs / f"{name.replace(', ', '-').replace(' ', '')}-{images}-{seed}"
    if not complete(run / "samples", args.n):
        if args.report_only:
            return None
        words = ["train", *words_of(name), "--images", str(images), "--seed", str(seed)]
        trained_samples(words, OWN[rate["mode"]], dataset, args.n, run / "samples")
    facts = {key: rate[key] for key in ("parameters", "mode", "images_per_s")}
    return {
        "candidate": name,
        "minutes": minutes,
        "seed": seed,
        "images": images,
        **facts,
        "folder": str(run / "samples"),
    }


def conclude(
    rows: Sequence[dict[str, Any]], rates: dict[str, Any], dataset: Dataset, args: argparse.Namespace
) -> None:
    """Measures what there is and reports it."""
    measure = yardstick(dataset, args.n)
    for each in rows:
        each["frechet"] = distance(Path(each.pop("folder")), args.n, measure)
    means = {
        f"{minutes:g}": means_of([each for each in rows if each["minutes"] == minutes]) for minutes in args.minutes
    }
    known = means[f"{max(args.minutes):g}"]
    best = min(known, key=lambda name: known[name]) if known else None
    scale = {"floor": measure.floor, "ceiling": measure.ceiling, "n": args.n, "reference": measure.reference}
    fast = {name: rates[name]["images_per_s"] for name in CANDIDATES}
    report("architecture", {"best": best, "means": means, **scale, "images_per_s": fast, "rows": rows}, NOTES)


def means_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean of each candidate's seeds."""
    found = {name: [each["frechet"] for each in rows if each["candidate"] == name] for name in CANDIDATES}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


if __name__ == "__main__":
    main()
