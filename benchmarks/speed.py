"""How fast networks are trained and evaluated, the peers' beside carrara's, and the share of the machine: `make bench-speed`.

Everything is timed in one process in rounds in which each has its turn. It needs a machine with nothing else to do: anything
beside it costs each row a different factor.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import peak_memory
from benchmarks.lanes import BACKENDS, Lane, sampling, training
from benchmarks.limits import limits
from benchmarks.result import report
from benchmarks.rivals.rates import threads
from benchmarks.timing import interleaved
from carrara.cli.threads import keep_memory

ROUNDS = 7
PEAK = "matrix product bf16"
SAME = ("unet2d", "diffusers")
"""Ours and theirs: one architecture, one size, one batch."""
OWN, TRANSFORMER = "unet 28", "dit"

NOTES = {
    "train": "ratio_*: images/s of our unet2d in its fastest mode over diffusers', same architecture, batch and pictures",
    "sample": "the same of evaluations; theirs are the network alone, ours all that Model.sample does",
    "memory_ratio": "what sampling 64 pictures adds at its peak, ours over diffusers' DDIMPipeline, both in float32",
    "memory_ratio_leanest": "the same, each side in its leanest mode",
    "memory_mb": "the same in millions of bytes, by mode",
    "limits": "GFLOP/s, the best of several sizes; copying in GB/s read and written",
    "rows": "pictures/s; share: of the bf16 matrix product, direct algorithm, multiply-add = 2, training = 3 evaluations",
    "skipped": "what could not be timed here, and why",
}
Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    """Times everything and reports."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes itself")
    args = parser.parse_args()
    threads(args.threads)
    keep_memory()  # For all sides: as `carrara train` does.
    skipped: dict[str, str] = {}
    found = limits(args.rounds)
    train = timed(training, skipped, args.rounds, args.seconds, found[PEAK])
    sample = timed(sampling, skipped, args.rounds, args.seconds, found[PEAK])
    memory = {
        f"{who} {mode}": peak_memory.added(who, mode) for who in ("carrara", "diffusers") for mode in modes(who)
    }
    figures = {
        "train": summary(train),
        "sample": summary(sample),
        "memory_ratio": over(memory["carrara float32"], memory["diffusers float32"]),
        "memory_ratio_leanest": over(leanest(memory, "carrara"), leanest(memory, "diffusers")),
        "memory_mb": memory,
        "limits": found,
        "rows": {"train": train, "sample": sample},
        "skipped": skipped,
    }
    report("speed", figures, NOTES)


def modes(who: str) -> list[str]:
    """The modes in which sampling's memory is measured."""
    return list(BACKENDS) if who == "carrara" else ["float32", "bf16"]


def leanest(memory: Mapping[str, float | None], who: str) -> float | None:
    """The least of what one side's modes add."""
    return min((value for name, value in memory.items() if name.startswith(who) and value is not None), default=None)


def timed(
    lanes: Callable[[dict[str, str]], Iterator[Lane]],
    skipped: dict[str, str],
    rounds: int,
    least_s: float,
    peak: float,
) -> list[dict[str, Any]]:
    """A row for each lane: pictures a second over the rounds, and the share of `peak` (GFLOP/s) that their median is."""
    known = list(lanes(skipped))
    found = interleaved({f"{lane.name}, {lane.mode}": lane.call for lane in known}, rounds, least_s)
    return [row(lane, found[f"{lane.name}, {lane.mode}"].scaled(lane.pictures).as_dict(), peak) for lane in known]


def row(lane: Lane, rates: dict[str, float], peak: float) -> dict[str, Any]:
    """A lane's rates as plain data."""
    share = rates["median"] * lane.gflop / peak
    fixed = {
        "network": lane.name,
        "mode": lane.mode,
        "parameters": lane.parameters,
        "pictures_at_once": lane.pictures,
    }
    return {**fixed, "gflop": float(f"{lane.gflop:.4g}"), **rates, "share": round(share, 4)}


def summary(rows: Rows) -> dict[str, float | None]:
    """Shares of the peak of our own networks in their fastest modes, and ratios of ours over theirs; None where unknown."""
    ours, theirs = SAME
    return {
        "fraction_of_peak": best(rows, OWN, "share"),
        "fraction_of_peak_transformer": best(rows, TRANSFORMER, "share"),
        "ratio_fp32_peer": over(best(rows, ours), best(rows, theirs, mode="float32")),
        "ratio_fp32_both": over(best(rows, ours, mode="float32"), best(rows, theirs, mode="float32")),
        "ratio_best_peer": over(best(rows, ours), best(rows, theirs)),
    }


def best(rows: Rows, network: str, what: str = "median", mode: str | None = None) -> float | None:
    """The highest value of a network's rows, of those of one mode where that is said; None where there is no row."""
    values = [row[what] for row in rows if row["network"] == network and mode in (None, row["mode"])]
    return max(values, default=None)


def over(ours: float | None, theirs: float | None) -> float | None:
    """The ratio, None where a side is not known."""
    return None if ours is None or theirs is None else round(ours / theirs, 4)


if __name__ == "__main__":
    main()
