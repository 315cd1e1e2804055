"""How far real pictures are from real pictures: FID of fashion's held-out pictures from its training pictures, at many n.

`python -m benchmarks.fid_floor [REFERENCE]`; stopped and started again, it goes on where it was.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.result import report
from carrara.cli.voice import Voice
from carrara.data import Dataset, load
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.frechet import Normal
from carrara.evaluation.inputs import shuffled
from carrara.evaluation.streaming import Selected, features_of
from carrara.evaluation.uncertainty import at_infinity, estimate

SIZES = (1000, 2000, 5000, 10_000)
REFERENCE = 10_000
NOTES = {
    "floor": "FID of n held-out pictures from the reference: what a perfect model scores",
    "infinite": "extrapolated to infinitely many held-out pictures; what is left is the reference's own bias",
    "low": "with high, the 95 % interval of infinite: the chance in the held-out pictures",
    "both": "extrapolated to infinitely many pictures of both sets, n of each: 0 but for chance and what is left of the bias",
}


def both_sets(dataset: Dataset, features: Features, reference_n: int, heldout_n: int) -> tuple[Tensor, Tensor]:
    """The features of training pictures and of held-out ones, the first of each in its shuffled order."""
    sizes = ((dataset.train, reference_n, "training pictures"), (dataset.heldout, heldout_n, "held-out pictures"))
    with Voice().counting() as progress:
        train, heldout = (
            features_of(
                Selected(split.pictures, shuffled(len(split), n)), features, progress=partial(progress, words)
            )
            for split, n, words in sizes
        )
    return train, heldout


def floors(train: Tensor, heldout: Tensor) -> dict[str, Any]:
    """The figures at every size there are pictures for."""
    reference = Normal.of_features(train)
    figures: dict[str, Any] = {}
    for n in (n for n in SIZES if n <= len(heldout)):
        found = estimate(heldout[:n], reference, replicates=50)
        figures |= {f"floor_{n}": found.value, f"infinite_{n}": found.infinite}
        figures |= {f"low_{n}": found.low, f"high_{n}": found.high}
        if n <= len(train):
            figures[f"both_{n}"] = at_infinity(heldout[:n], train[:n]).value
    return figures


def main(reference_n: int = REFERENCE) -> None:
    """Measures the floors against `reference_n` training pictures."""
    dataset = load("fashion")
    features = load_features("inception")
    heldout_n = min(len(dataset.heldout), reference_n, max(SIZES))
    figures = floors(*both_sets(dataset, features, min(reference_n, len(dataset.train)), heldout_n))
    facts = {"reference_n": reference_n, "features": features.name, "resizer": features.resizer}
    report("fid_floor", {**figures, **facts}, {f"{name}_{n}": note for name, note in NOTES.items() for n in SIZES})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
