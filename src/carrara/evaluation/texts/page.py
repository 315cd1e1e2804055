"""The results of a study of texts as one self-contained page: a chart a measure, the texts, the table, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carrara.evaluation.report import Code, Figure, Figures, KeyValues, Report, Row, Section, write
from carrara.evaluation.studies.page import charts, table
from carrara.evaluation.studies.study import Study, guided
from carrara.evaluation.texts.figures import MEASURES

OTHERS = ("date", "carrara", "commit", "processor", "torch", "weights_sha256", "data_fingerprint", "judge_sha256")
"""What the last section lists of how the study was made."""
TILES = ("perplexity", "entropy", "repeated")


def write_page(study: Study, result: Mapping[str, Any], sheets: Mapping[str, Sequence[str]], path: Path) -> Path:
    """Writes the page of a study's results and of `sheets`, the first texts of every cell; returns its path."""
    subtitle = (
        f"{result['model']}, {guided(study, result['sampling'].get('guidance_scale', 1))}: {result['n']} samples a cell, seeds "
        f"from {result['seed']}, beside held-out text; judge {result['judge']}"
    )
    sections = [
        Section("The question", study.question),
        Section("What was measured", study.reading, [Row(charts(study, result))]),
        *study.sections(result),
        Section(
            "The same seeds", seeds_words(result), [Code("\n\n".join(texts), name) for name, texts in sheets.items()]
        ),
        Section("All figures", "", [table(study, result, MEASURES, "shuffled words")]),
        Section("How it was made", "", [KeyValues([(key.replace("_", " "), result[key]) for key in OTHERS])]),
    ]
    return write(Report(study.title, subtitle, sections, [Figures(tiles(study, result))]), path)


def seeds_words(result: Mapping[str, Any]) -> str:
    """What the texts are."""
    given = result["given_tokens"]
    words = "The first texts of every cell, none of them chosen."
    if not given:
        return words
    return f"{words} Before the bar are the {given} of {result['window_tokens']} tokens that were given; they are not measured."


def tiles(study: Study, result: Mapping[str, Any]) -> list[Figure]:
    """By each of TILES the cell that is nearest to held-out text."""
    return [_nearest(study, result, name) for name in TILES if result["heldout"][name] is not None]


def _nearest(study: Study, result: Mapping[str, Any], name: str) -> Figure:
    real, cells = result["heldout"][name], [cell for cell in result["cells"] if cell[name] is not None]
    best = min(cells, key=lambda cell: abs(cell[name] - real), default=None)
    title = f"{MEASURES[name].title} nearest to held-out text"
    if best is None:
        return Figure(title, None)
    return Figure(
        title, best[name], f"{best['line']}, {study.axis} {best['x']:g}; held out {real:.3g}", n=result["n"]
    )
