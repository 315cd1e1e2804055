"""How fast networks are trained and evaluated, the peers' beside carrara's, and the share of the machine: `make bench-speed`.

Everything is timed in one process in rounds in which each has its turn. It needs a machine with nothing else to do: anything
beside it costs each row a different factor.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import peak_memory
from benchmarks.lanes import BACKENDS, Lane, sampling, training
from benchmarks.limits import limits, peak
from benchmarks.result import known, report
from benchmarks.rivals.rates import threads
from benchmarks.timing import Spread, interleaved
from carrara import about
from carrara.cli.threads import keep_memory

ROUNDS = 7
PROCESSES = 7
"""In which each mode's memory is measured, for their median: what is held depends on where the allocator finds room."""
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
    "rows": "pictures/s; share: the median of turns, each over the bf16 matrix product measured just before it (peak, GFLOP/s); "
    "direct algorithm, multiply-add = 2, training = 3 evaluations",
    "skipped": "what could not be timed here, and why",
}
Rows = Sequence[Mapping[str, Any]]


def main() -> None:
    """Times everything and reports."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least")
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it takes itself")
    parser.add_argument("--memory-only", action="store_true", help="the rates stay those of the last run")
    args = parser.parse_args()
    threads(args.threads)
    if args.memory_only:
        report("speed", {**known("speed"), **memory(), "memory_made": about.surroundings()}, NOTES)
        return
    keep_memory()  # For all sides: as `carrara train` does.
    skipped: dict[str, str] = {}
    found = limits(args.rounds)
    train = timed(training, skipped, args.rounds, args.seconds)
    sample = timed(sampling, skipped, args.rounds, args.seconds)
    figures = {
        "train": summary(train),
        "sample": summary(sample),
        **memory(),
        "limits": found,
        "rows": {"train": train, "sample": sample},
        "skipped": skipped,
    }
    report("speed", figures, NOTES)


def memory() -> dict[str, Any]:
    """What sampling adds in each mode, and the ratios of ours over theirs."""
    found = {
        f"{who} {mode}": middle([peak_memory.added(who, mode) for _ in range(PROCESSES)])
        for who in ("carrara", "diffusers")
        for mode in modes(who)
    }
    return {
        "memory_ratio": over(found["carrara float32"], found["diffusers float32"]),
        "memory_ratio_leanest": over(leanest(found, "carrara"), leanest(found, "diffusers")),
        "memory_mb": found,
    }


def middle(values: Sequence[float | None]) -> float | None:
    """The median; None where one is not known."""
    measured = [value for value in values if value is not None]
    return statistics.median(measured) if len(measured) == len(values) else None


def modes(who: str) -> list[str]:
    """The modes in which sampling's memory is measured."""
    return list(BACKENDS) if who == "carrara" else ["float32", "bf16"]


def leanest(found: Mapping[str, float | None], who: str) -> float | None:
    """The least of what one side's modes add."""
    return min((value for name, value in found.items() if name.startswith(who) and value is not None), default=None)


def timed(
    lanes: Callable[[dict[str, str]], Iterator[Lane]], skipped: dict[str, str], rounds: int, least_s: float
) -> list[dict[str, Any]]:
    """A row for each lane: pictures a second over the rounds, and the share of the peak, which is measured before each turn."""
    every = {f"{lane.name}, {lane.mode}": lane for lane in lanes(skipped)}
    peaks: dict[str, list[float]] = {name: [] for name in every}
    calls = {name: lane.call for name, lane in every.items()}
    found = interleaved(calls, rounds, least_s, before=lambda name: peaks[name].append(peak()))
    return [row(lane, found[name].scaled(lane.pictures), peaks[name]) for name, lane in every.items()]


def row(lane: Lane, rates: Spread, peaks: Sequence[float]) -> dict[str, Any]:
    """A lane's rates as plain data; the peak, GFLOP/s, beside each."""
    shares = [each * lane.gflop / most for each, most in zip(rates.each, peaks, strict=True)]
    fixed = {
        "network": lane.name,
        "mode": lane.mode,
        "parameters": lane.parameters,
        "pictures_at_once": lane.pictures,
        "gflop": float(f"{lane.gflop:.4g}"),
    }
    share = {"share": round(statistics.median(shares), 4), "peak": round(statistics.median(peaks), 1)}
    return {**fixed, **rates.as_dict(), **share}


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
