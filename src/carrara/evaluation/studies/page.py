"""The results of a study as one self-contained page: a chart a measure, the pictures, the table, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carrara.evaluation import pictures
from carrara.evaluation.charts import line_chart
from carrara.evaluation.report import (
    Cell,
    Chart,
    Figure,
    Figures,
    KeyValues,
    Picture,
    Report,
    Row,
    Section,
    Table,
    write,
)
from carrara.evaluation.studies.ground import MEASURES
from carrara.evaluation.studies.study import Measure, Study, guided

HELDOUT, NOISE = "held out", "noise"
OTHERS = ("date", "carrara", "commit", "processor", "torch", "weights_sha256", "data_fingerprint", "features_sha256")
"""What the last section lists of how the study was made."""


def write_page(study: Study, result: Mapping[str, Any], sheets: Mapping[float, Tensor], path: Path) -> Path:
    """Writes the page of a study's results and of `sheets`, the samples at each value, line by line; returns its path."""
    guidance = guided(study, result["sampling"].get("guidance_scale", 1))
    subtitle = (
        f"{result['model']}, {guidance}: {result['n']} samples a cell, seeds from {result['seed']}, "
        f"against {result['reference']}; {result['features']}"
    )
    sections = [
        Section("The question", study.question),
        Section("What was measured", study.reading or measured_words(result), [Row(charts(study, result))]),
        *study.sections(result),
        Section(
            "The same seeds",
            seeds_words(study, len(sheets)),
            [sheet(study, result, x, shown) for x, shown in sheets.items()],
        ),
        Section("All figures", "", [table(study, result)]),
        Section("How it was made", "", [KeyValues([(key.replace("_", " "), result[key]) for key in OTHERS])]),
    ]
    return write(Report(study.title, subtitle, sections, [Figures(tiles(study, result))]), path)


def measured_words(result: Mapping[str, Any]) -> str:
    """How to read the charts."""
    return (
        f"A line a way of sampling. Held-out pictures are measured as the samples are, at the same n: what a perfect "
        f"model would score. Precision, recall and coverage see each picture with a ball that reaches to its k-th nearest "
        f"neighbour, k = {result['k']}, and compare the samples with {result['n']} training pictures."
    )


def seeds_words(study: Study, sheets: int) -> str:
    """What the sheets show."""
    first = (
        f"A sheet for each value of {study.axis}, a row a way of sampling, a column a seed"
        if sheets > 1
        else "A column a seed"
    )
    return f"{first}: none of them chosen. Where there are classes, some seeds of each of the first classes stand together."


def charts(study: Study, result: Mapping[str, Any]) -> list[Chart]:
    """A chart of each measure that says anything here: a line for each way of sampling, and one for held-out pictures."""
    if study.charts is not None:
        return study.charts(result)
    return [
        Chart(chart(study, result, name), MEASURES[name].meaning)
        for name in study.measures
        if result["heldout"][name] is not None
    ]


def chart(study: Study, result: Mapping[str, Any], name: str) -> str:
    """One measure over the study's values."""
    values, level = result["values"], result["heldout"][name]
    series = {line: points(result, line, name) for line in lines(result)}
    reference = {HELDOUT: (values, [level] * len(values))}
    title = f"{MEASURES[name].title}{_direction(MEASURES[name].better)}"
    return line_chart(series | reference, title, study.axis, MEASURES[name].unit, log_x=study.log_x)


def lines(result: Mapping[str, Any]) -> list[str]:
    """The ways of sampling, in order."""
    return list(dict.fromkeys(cell["line"] for cell in result["cells"]))


def sheet(study: Study, result: Mapping[str, Any], x: float, shown: Tensor) -> Picture:
    """The first samples of every line at one value."""
    drawn = pictures.labelled_grid(shown.numpy(), row_labels=lines(result))
    words = f"{x:g} {study.axis}"
    return Picture(pictures.png_bytes(drawn), f"Samples with {words}, a row a way of sampling", words)


def table(
    study: Study, result: Mapping[str, Any], measures: Mapping[str, Measure[Any]] = MEASURES, worst: str = NOISE
) -> Table:
    """All figures: a row a cell, then what is held out, and noise, or what else is the worst."""
    columns = [study.axis, "sampled", *(measures[name].short for name in study.measures)]
    cells = sorted(result["cells"], key=lambda cell: result["values"].index(cell["x"]))
    rows: list[list[Cell]] = [
        [f"{cell['x']:g}", cell["line"], *(cell[name] for name in study.measures)] for cell in cells
    ]
    for words, figures in ((HELDOUT, result["heldout"]), (worst, result["noise"])):
        rows.append(["–", words, *(figures[name] for name in study.measures)])
    return Table(columns, rows, f"n = {result['n']} in {'every row' if study.sizes is None else 'the last two rows'}")


def tiles(study: Study, result: Mapping[str, Any]) -> list[Figure]:
    """The best and the worst cell by the study's first measure, with its scale."""
    name = study.measures[0]
    measure, cells = MEASURES[name], [cell for cell in result["cells"] if cell[name] is not None]
    ordered = sorted(cells, key=lambda cell: cell[name], reverse=measure.better == "higher")
    return [
        Figure(
            f"{measure.title}, {words}",
            cell[name],
            f"{cell['line']}, {cell['x']:g} {study.axis}",
            **scale(result, cell, name),
        )
        for words, cell in zip(("best", "worst"), (ordered[:1] + ordered[-1:]), strict=False)
    ]


def scale(result: Mapping[str, Any], cell: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A cell's n, and the floor and ceiling of a measure of it."""
    return {
        "floor": cell.get("floor", result["heldout"][name]),
        "ceiling": result["noise"][name],
        "n": cell.get("n", result["n"]),
    }


def points(result: Mapping[str, Any], line: str, name: str) -> tuple[list[float], list[float]]:
    """The values of one way of sampling, and one measure at each; NaN where there is none."""
    mine = [cell for cell in result["cells"] if cell["line"] == line]
    return [cell["x"] for cell in mine], [float("nan") if cell[name] is None else cell[name] for cell in mine]


def _direction(better: str) -> str:
    return f": {better} is better" if better else ": near to held out is better"
