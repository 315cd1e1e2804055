"""FID of fashion: how far real pictures are from real pictures, a trained model from them, and what other tools say of the same.

    floor   held-out pictures against 10,000 training pictures, at many n: what a perfect model scores
    model   samples of runs/fashion (`make bench-fashion`) against the same pictures, with the floor at that n
    peers   two folders of 1000 PNG files, by other tools (`make bench-fid-peers` installs them) and by carrara

`python -m benchmarks.fid_floor --stage floor`, and so on; without --stage all three. Each stage puts its figures into
results/fid_floor.json and fills the tables in docs/measure.md. Stopped and started again, it goes on where it was: samples, folders
and other tools' answers are kept in runs/fid-floor, features in the cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.fid import model as of_model
from benchmarks.fid import peers, table
from benchmarks.result import known, report
from carrara import about
from carrara.cli.voice import Voice
from carrara.data import Dataset, load
from carrara.errors import InputError
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.frechet import Normal
from carrara.evaluation.measure import heldout, training
from carrara.evaluation.streaming import Pictures, features_of
from carrara.evaluation.uncertainty import at_infinity, estimate

NAME = "fid_floor"
SIZES = (1000, 2000, 5000, 10_000)
REFERENCE = 10_000
SAMPLES = 5000
PEERS_N = 1000
REPLICATES = 50
RUN, KEPT = Path("runs/fashion"), Path("runs/fid-floor")

OF_SIZES = {
    "floor": "FID of n held-out pictures from the reference: what a perfect model scores",
    "infinite": "extrapolated to infinitely many held-out pictures; what is left is the reference's own bias",
    "low": "with high, the 95 % interval of infinite: the chance in the held-out pictures",
    "both": "extrapolated to infinitely many pictures of both sets, n of each: 0 but for chance and what is left of the bias",
    "model": "FID of n samples of the model from the reference",
}
NOTES = {
    "model_infinite": "extrapolated to infinitely many samples",
    "model_low": "with model_high, the 95 % interval of model_infinite: the chance in the samples",
    "peers": "other tools beside carrara, on the same two folders: difference is ours less theirs, relative that over theirs",
    "stages": "where and when each stage was measured",
}

GOING_BY = ("reference_n", "features", "resizer")
LASTING = {"peers", "stages"}
"""What does not go by the reference."""

Stage = Callable[[argparse.Namespace], dict[str, Any]]


def floors(train: Tensor, heldout: Tensor, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """The figures at every size there are pictures for."""
    reference = Normal.of_features(train)
    figures: dict[str, Any] = {}
    for n in (n for n in sizes if n <= len(heldout)):
        found = estimate(heldout[:n], reference, replicates=REPLICATES)
        figures |= {f"floor_{n}": found.value, f"infinite_{n}": found.infinite}
        figures |= {f"low_{n}": found.low, f"high_{n}": found.high}
        if n <= len(train):
            figures[f"both_{n}"] = at_infinity(heldout[:n], train[:n]).value
    return figures


def seen(features: Features, **sets: Pictures) -> list[Tensor]:
    """The features of each set of pictures, under the name it goes by while they are made."""
    with Voice().counting() as progress:
        return [
            features_of(pictures, features, progress=partial(progress, f"{name} pictures"))
            for name, pictures in sets.items()
        ]


def facts(features: Features, dataset: Dataset, reference_n: int) -> dict[str, Any]:
    """What every figure of the stages `floor` and `model` goes by."""
    count = min(reference_n, len(dataset.train))
    return {"reference_n": count, "features": features.name, "resizer": features.resizer}


def floor_stage(args: argparse.Namespace) -> dict[str, Any]:
    """The floors."""
    dataset, features = load("fashion"), load_features("inception")
    heldout_n = min(len(dataset.heldout), args.reference, max(SIZES))
    sets = {"training": training(dataset, args.reference), "heldout": heldout(dataset, heldout_n)}
    train, real = seen(features, **sets)
    return {**floors(train, real), **facts(features, dataset, args.reference)}


def model_stage(args: argparse.Namespace) -> dict[str, Any]:
    """The model's figures, and the floor at their n."""
    model = of_model.trained(args.run)
    dataset, features = load("fashion"), load_features("inception")
    if args.n > len(dataset.heldout):
        raise InputError(
            f"n = {args.n}, but the floor needs as many held-out pictures, and there are {len(dataset.heldout)}"
        )
    drawn = of_model.samples(model, dataset, args.n, args.kept)
    train, real, made = seen(
        features, training=training(dataset, args.reference), heldout=heldout(dataset, args.n), sampled=drawn
    )
    figures = of_model.figures(model, made, Normal.of_features(train), REPLICATES)
    return {**floors(train, real, (args.n,)), **figures, **facts(features, dataset, args.reference)}


def peers_stage(args: argparse.Namespace) -> dict[str, Any]:
    """The other tools' figures beside ours, with the model's pictures where it is trained."""
    dataset, n = load("fashion"), args.peers_n
    sets: dict[str, tuple[str, Pictures]] = {
        "held-out": (f"heldout-{n}", heldout(dataset, n)),
        "training": (f"train-{n}", training(dataset, n)),
    }
    if args.run.is_dir():
        model = of_model.trained(args.run)
        sets["model"] = f"model-{of_model.key(model)}-{n}", of_model.samples(model, dataset, n, args.kept)
    else:
        print(f"{args.run} is not there: held-out pictures only; `make bench-fashion` trains runs/fashion")
    folders = {
        name: peers.written(pictures, args.kept / "pictures" / folder) for name, (folder, pictures) in sets.items()
    }
    return {"peers": peers.rows(folders, n, args.kept)}


STAGES: dict[str, Stage] = {"floor": floor_stage, "model": model_stage, "peers": peers_stage}


def merged(before: Mapping[str, Any], stage: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is known, with a stage's new figures. What went by another reference is dropped, and so is another model's."""
    going_by = {name: figures[name] for name in GOING_BY if name in figures}
    left = (
        dict(before)
        if going_by.items() <= before.items()
        else {name: before[name] for name in LASTING & before.keys()}
    )
    left = {name: value for name, value in left.items() if not (name == "made" or replaced(stage, name))}
    if "peers" in figures:
        figures = {**figures, "peers": peers.merged(before.get("peers", ()), figures["peers"])}
    return {**left, **figures, "stages": {**before.get("stages", {}), stage: about.surroundings()}}


def replaced(stage: str, name: str) -> bool:
    """Whether a figure is one that the stage measures anew, even if under another n."""
    return stage == "model" and name.startswith("model")


def notes() -> dict[str, str]:
    """A note on each figure."""
    return NOTES | {f"{name}_{n}": note for name, note in OF_SIZES.items() for n in SIZES}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--stage", nargs="+", choices=tuple(STAGES), default=list(STAGES))
    parser.add_argument(
        "--reference", type=int, default=REFERENCE, help="training pictures that all is measured against"
    )
    parser.add_argument("-n", type=int, default=SAMPLES, help="samples of the model")
    parser.add_argument(
        "--peers-n", type=int, default=PEERS_N, help="pictures of each folder that other tools are given"
    )
    parser.add_argument("--run", type=Path, default=RUN, help="the trained model")
    parser.add_argument(
        "--kept", type=Path, default=KEPT, help="where samples, folders and other tools' answers are kept"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measures the stages asked for; each has its figures kept as it ends."""
    args = arguments(words)
    if "model" in args.stage:
        of_model.trained(args.run)
    for stage in args.stage:
        figures = merged(known(NAME), stage, STAGES[stage](args))
        report(NAME, figures, notes())
        table.fill(figures)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from error
