"""`carrara evaluate runs/fashion --study noise`: every share of fresh noise, and the mean alone: `make bench-noise`.

The study goes on from where it was stopped. The table for docs/why-noise.md is printed, its picture written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.recipes import carrara
from benchmarks.result import report
from carrara import files, load
from carrara.evaluation.report import number
from carrara.evaluation.studies import STUDIES
from carrara.evaluation.studies.page import sheet, table
from carrara.evaluation.studies.run import FOLDER, planned, sheets
from carrara.training.run import dataset_of

PICTURE = Path("docs/pictures/why-noise.png")
SHOWN_AT = 50
"""The number of steps whose samples are shown, or the nearest that was measured."""

NOTES = {
    "n": "samples in each cell, and held-out pictures, training pictures and pictures of noise beside them",
    "heldout": "held-out pictures, measured as the samples are",
    "noise": "uniform noise, measured as the samples are",
    "sampling_seconds": "seconds for the samples of all cells, without loading",
}


def main(run: Path, *options: str) -> None:
    """Runs the study of the model in `run`, or goes on with it, and writes its table and its picture."""
    carrara("evaluate", str(run), "--study", "noise", *options)
    result = files.read_json(run / FOLDER / "noise.json")
    print(markdown(result))
    files.write(PICTURE, picture(run, result))
    cells = {f"{cell['line']}, {cell['x']:g} steps": figures(cell) for cell in result["cells"]}
    common = {key: result[key] for key in ("n", "seed", "features", "reference", "k")}
    seconds = round(sum(cell["seconds"] for cell in result["cells"]), 1)
    beside = {"heldout": figures(result["heldout"]), "noise": figures(result["noise"]), "sampling_seconds": seconds}
    report("noise", {**common, **cells, **beside}, NOTES)


def figures(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell's figures, to four digits."""
    return {name: None if cell[name] is None else float(f"{cell[name]:.4g}") for name in STUDIES["noise"].measures}


def markdown(result: dict[str, Any]) -> str:
    """The study's table in Markdown."""
    found = table(STUDIES["noise"], result)
    rows = [found.columns, ["---:", "---", *["---:"] * (len(found.columns) - 2)]]
    rows += [[number(cell, 3) for cell in row] for row in found.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def picture(run: Path, result: dict[str, Any]) -> bytes:
    """The sheet of samples at one number of steps, as a PNG."""
    study, model = STUDIES["noise"], load(run)
    at = min(result["values"], key=lambda steps: abs(steps - SHOWN_AT))
    shared = {"n": result["n"], "seed": result["seed"], "values": (at,), **result["sampling"]}
    plan = planned(study, model, dataset_of(model.recipe), run / FOLDER, **shared)
    return sheet(study, result, at, sheets(plan)[at]).data


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/fashion"), *sys.argv[2:])
