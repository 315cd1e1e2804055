"""Quality against minutes: carrara beside its peers, each trained for as many images as it takes in so many minutes.

`make bench-quality`. First the rate of each contestant is measured, the best of several rounds in its fastest mode, and kept in
RUNS/rates.json; from then on "M minutes" means that rate · 60 · M images, so that a machine that is busy cannot change the result,
and neither can training in pieces: everything is kept under RUNS (runs/quality), and the command, stopped at any moment, goes on
where it was. One measure for all: the Fréchet distance of n samples, as `carrara evaluate` has it.

The peers train once for the longest time, with snapshots on the way; carrara, whose learning rate cools down to the end, has a run
of its own for each.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import carrara
from benchmarks.quality_figures import NOTES, figures, picture
from benchmarks.result import known, report
from benchmarks.rivals import rates as rates_of
from benchmarks.rivals.contestants import CONTESTANTS, OURS
from benchmarks.rivals.ours import WAYS, recipe_of
from benchmarks.rivals.pictures import labels_in_turn
from benchmarks.rivals.races import average_of, in_chunks, sampled, trained
from benchmarks.rivals.rival import MODES
from carrara import files
from carrara.cli.threads import keep_memory
from carrara.data import Dataset
from carrara.evaluation.measure import Yardstick, yardstick
from carrara.recipe import read
from carrara.training.computing import Computing
from carrara.training.learner import seeded
from carrara.training.run import dataset_of

DATA = ("fashion", "emoji")
N = 1000


class Entry(NamedTuple):
    """One figure: a contestant after so many minutes, trained from a seed."""

    name: str
    minutes: float
    seed: int
    images: int
    folder: Path
    """Of its samples."""


class Plan(NamedTuple):
    """What is to be done, and where it is kept."""

    dataset: Dataset
    rates: dict[str, Any]
    root: Path
    minutes: Sequence[float]
    n: int

    def images(self, name: str, minutes: float) -> int:
        """The images of so many minutes, in whole batches of the contestant's."""
        batch: int = self.rates[name]["batch"]
        steps: int = round(self.rates[name]["images_per_s"] * 60 * minutes / batch)
        return max(1, steps) * batch

    def entry(self, name: str, minutes: float, seed: int) -> Entry:
        """The figure of these, and the place of its samples."""
        images = self.images(name, minutes)
        longest = images if name == OURS else self.images(name, max(self.minutes))
        run = self.root / f"{name}-{longest}-{seed}"
        return Entry(name, minutes, seed, images, run / f"samples-{images}")

    def entries(self, who: Sequence[str], seeds: Sequence[int]) -> list[Entry]:
        """All figures of these contestants and seeds: seed after seed, and of each the longest time first."""
        return [
            self.entry(name, minutes, seed)
            for seed in seeds
            for minutes in sorted(self.minutes, reverse=True)
            for name in who
        ]


def main() -> None:
    """Trains and samples what is asked for and missing, measures everything there is, reports."""
    args = arguments()
    rates_of.threads(args.threads)
    keep_memory()
    dataset = dataset_of(read(recipe_of(args.data)))
    rates = rates_of.rates(dataset, args.runs / "rates.json", args.measure_rates)
    if args.ours_was:
        rates_of.ours_again(dataset, args.runs / "rates.json", args.ours_was)
        rates = rates_of.rates(dataset, args.runs / "rates.json")
    n = min(args.n, len(dataset.heldout))
    plan = Plan(dataset, rates, args.runs / args.data, sorted(args.minutes), n)
    for entry in () if args.rates_only else plan.entries(args.only or [OURS, *CONTESTANTS], args.seeds):
        finished(plan, entry)
    concluded(plan, plan.entries([OURS, *CONTESTANTS], args.seeds), args.data)


def arguments() -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", choices=DATA, default=DATA[0])
    parser.add_argument("--only", type=names, help="contestants to train and sample, with commas between them")
    parser.add_argument("--seeds", type=lambda text: [int(word) for word in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--minutes", type=lambda text: [float(word) for word in text.split(",")], default=[2.0, 8.0])
    parser.add_argument("-n", type=int, default=N, help="samples of each")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes itself")
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"), help="where everything is kept")
    parser.add_argument(
        "--measure-rates", action="store_true", help="measure the rates again: needs the idle machine"
    )
    parser.add_argument(
        "--ours-was",
        action="append",
        default=[],
        metavar="a.b=c",
        help="our kept rate is of the recipe with this change: measure what it is now, both side by side, on the idle machine",
    )
    parser.add_argument("--rates-only", action="store_true", help="nothing is trained or sampled")
    return parser.parse_args()


def names(text: str) -> list[str]:
    """Contestants' names from a list with commas. Raises ArgumentTypeError for one that is unknown."""
    found = text.split(",")
    if unknown := [name for name in found if name not in (OURS, *CONTESTANTS)]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join((OURS, *CONTESTANTS))}")
    return found


def finished(plan: Plan, entry: Entry) -> None:
    """Trains and samples what a figure needs, as far as that is not done."""
    if not complete(entry.folder, plan.n):
        (our_samples if entry.name == OURS else their_samples)(plan, entry)


def complete(folder: Path, n: int) -> bool:
    """Whether all n samples of a figure are in their folder."""
    return sum(int(path.stem[-3:]) for path in folder.glob("??????-???.npy")) >= n


def our_samples(plan: Plan, entry: Entry) -> Tensor:
    """carrara's samples, by its own command for training and its recipe's own way to sample, in the precision it was trained in."""
    how = WAYS[plan.rates[OURS]["mode"]]
    words = ["train", recipe_of(plan.dataset.name), "--images", str(entry.images), "--seed", str(entry.seed)]
    return trained_samples(words, how, plan.dataset, plan.n, entry.folder)


def trained_samples(words: Sequence[str], how: Computing, dataset: Dataset, n: int, folder: Path) -> Tensor:
    """n samples of what `carrara WORDS` trains into the folder above theirs; both are kept, and gone on with when called again."""
    run = folder.parent
    mode = [word for key, value in how.as_dict().items() for word in ("--set", f"training.{key}={value}")]
    asked = [sys.executable, "-m", "carrara", *words, "--out", str(run), *mode]
    subprocess.run(asked, check=True, env=os.environ | {"OMP_NUM_THREADS": str(rates_of.threads(None))})
    model = carrara.load(run, backend="torch-bf16" if how.precision == "bf16" else "torch")

    def made(start: int, count: int) -> Tensor:
        label = labels_in_turn(dataset, start, count).tolist()
        pictures: Tensor = model.sample(seeds=range(start, start + count), batch=50, label=label)
        return pictures

    return in_chunks(n, folder, made)


def their_samples(plan: Plan, entry: Entry) -> Tensor:
    """A peer's samples at one of its snapshots, computed in the mode it was trained in: its fastest."""
    make, rate, run = CONTESTANTS[entry.name], plan.rates[entry.name], entry.folder.parent
    snapshots = [plan.images(entry.name, minutes) for minutes in plan.minutes]
    steps = max(snapshots) // rate["batch"]
    if not all(average_of(run, images).is_file() for images in snapshots):
        with seeded(entry.seed):
            rival = make(plan.dataset, steps, MODES[rate["mode"]])
        trained(rival, plan.dataset, entry.seed, snapshots, run)
    rival = make(plan.dataset, steps, MODES[rate["mode"]])
    return sampled(rival, plan.dataset, average_of(run, entry.images), plan.n, entry.folder)


def concluded(plan: Plan, entries: Sequence[Entry], data: str) -> None:
    """Measures the figures that are complete, draws and reports them; beside them those that were reported before."""
    measure = yardstick(plan.dataset, plan.n)
    name = "quality_per_minute" + ("" if data == DATA[0] else f"_{data}")
    before = reported(known(name), measure)
    found_rows = [
        row(plan, measure, each) if complete(each.folder, plan.n) else before.get(each[:4]) for each in entries
    ]
    rows = [each for each in found_rows if each]
    found = figures(rows, max(plan.minutes))
    scale = {"floor": measure.floor, "ceiling": measure.ceiling, "n": plan.n, "reference": measure.reference}
    report(name, {**found, **scale, "data": data, "rates": plan.rates}, NOTES)
    if rows:
        picture(rows, measure, data)


def reported(results: Mapping[str, Any], measure: Yardstick) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Figures of a report, perhaps another machine's, by all but the folder of their Entry; none if its scale is another."""
    if not math.isclose(results.get("floor", math.nan), measure.floor, rel_tol=1e-4):
        return {}
    facts = ("contestant", "minutes", "seed", "images")
    return {tuple(each[fact] for fact in facts): each for each in results["rows"]}


def row(plan: Plan, measure: Yardstick, entry: Entry) -> dict[str, Any]:
    """A figure as plain data; its distance is kept beside the samples."""
    rate = plan.rates[entry.name]
    return {
        "contestant": entry.name,
        "minutes": entry.minutes,
        "seed": entry.seed,
        "images": entry.images,
        "parameters": rate["parameters"],
        "mode": rate["mode"],
        "frechet": distance(entry.folder, plan.n, measure),
    }


def distance(folder: Path, n: int, measure: Yardstick) -> float:
    """The Fréchet distance of n samples in a folder, kept beside them."""
    path = folder / f"frechet-{n}-{measure.features.sha256[:8]}.json"
    if not path.is_file():
        files.write_json(path, measure.measure(in_chunks(n, folder, absent)).as_dict())
    value: float = files.read_json(path)["value"]
    return value


def absent(start: int, count: int) -> Tensor:
    """Never asked for: only samples that are all there are measured."""
    raise AssertionError(f"samples {start} to {start + count - 1} are missing")


if __name__ == "__main__":
    main()
