"""`carrara train fashion --minutes 8`, then its figures: `make bench-fashion`. The run stays in runs/fashion."""

from __future__ import annotations

from pathlib import Path

from benchmarks.recipes import NOTES, carrara, figures_of
from benchmarks.result import report


def main() -> None:
    """Trains, or goes on with, runs/fashion and evaluates it."""
    run = Path("runs/fashion")
    seconds = carrara("train", "fashion", "--minutes", "8", "--out", str(run))
    seconds += carrara("evaluate", str(run), "-n", "2000")
    report("fashion", {**figures_of(run), "seconds": round(seconds, 1)}, NOTES)


if __name__ == "__main__":
    main()
