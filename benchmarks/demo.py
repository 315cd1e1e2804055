"""`make demo`, timed and measured: `make bench-demo`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.recipes import NOTES, carrara, figures_of
from benchmarks.result import report


def main() -> None:
    """Runs the demo's commands in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "digits"
        seconds = carrara("train", "digits", "--minutes", "1.25", "--out", str(run))
        out = ["--out", str(run / "samples.png"), "--gif", str(run / "samples.gif")]
        seconds += carrara("sample", str(run), "-n", "40", *out)
        seconds += carrara("evaluate", str(run), "-n", "1000")
        report("demo", {**figures_of(run), "seconds": round(seconds, 1)}, NOTES)


if __name__ == "__main__":
    main()
