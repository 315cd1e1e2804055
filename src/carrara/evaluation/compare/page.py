"""The results of a comparison as one self-contained page: tiles, tables, two charts, the pictures, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from carrara.evaluation import pictures
from carrara.evaluation.compare import tables
from carrara.evaluation.dots import Dot, dot_chart, interval_chart
from carrara.evaluation.report import (
    Block,
    Chart,
    Figure,
    Figures,
    KeyValues,
    Picture,
    Report,
    Row,
    Section,
    write,
)

Result = Mapping[str, Any]

TILES = ("frechet", "kid", "precision", "recall", "read")
LEVELS = {"held-out pictures": "floor: held-out pictures", "noise": "ceiling: noise"}
COLUMNS = 10
TILE = 40
"""The least side of a picture in pixels of the page; of small pictures two sheets stand side by side."""
OTHERS = (
    "date", "carrara", "commit", "processor", "torch", "threads", "seed", "size", "reference", "reference_fingerprint",
    "features", "features_sha256", "resizer",
)  # fmt: skip
"""What the last section lists of how the comparison was made."""


def write_page(result: Result, sheets: Iterable[tuple[str, Tensor]], path: Path) -> Path:
    """Writes the page of a comparison's results and of `sheets`, each thing's name and first pictures; returns its path."""
    names = ", ".join(row["name"] for row in result["things"])
    costs, missing = tables.costs(result), tables.missing(result)
    sections = [
        Section("Distances", distances_words(result), [tables.distances(result), Chart(frechet_chart(result))]),
        Section("Fidelity, diversity, repetition", "", [tables.shares(result)]),
        Section("Cost", "", [] if costs is None else [costs, Chart(cost_chart(result), _cost_words(result))]),
        Section("Pictures", pictures_words(result), [Row([sheet(result, *each) for each in sheets])]),
        Section("Notes", "\n\n".join(tables.notes(result)), [] if missing is None else [missing]),
        Section("How it was made", "", [KeyValues([(key.replace("_", " "), result[key]) for key in OTHERS])]),
    ]
    kept = [section for section in sections if section.blocks or section.text]
    lead: list[Block] = [Figures(tiles(result))]
    return write(Report(f"Compared: {names}", tables.protocol(result), kept, lead), path)


def distances_words(result: Result) -> str:
    """How to read the distances."""
    bold = f"{result['replicates']} bootstraps of the pictures measured"
    return (
        f"A Fréchet distance falls as n grows, so all are of the same number of pictures. Its interval, from {bold}, is "
        "where other pictures of the same origin would put it; the reference stands still. At infinite n is where a line "
        "through the distances of thirds, halves and the whole meets 1 / n = 0. KID has no such bias, and may be below 0.\n\n"
        f"{_pairs_words(result)}"
    )


def _pairs_words(result: Result) -> str:
    if result["pairs_n"] is None:
        return "The reference is statistics alone: what compares single pictures cannot be had."
    return f"KID, precision, recall, density and coverage compare with {result['pairs_n']:,} of the reference's pictures."


def pictures_words(result: Result) -> str:
    """What the sheets show."""
    models = [row for row in result["things"] if row["cost"] is not None]
    asked = " and the same class" if any(row["shown"] for row in models) else ""
    seeds = f" In the same place models have the same seed{asked}, from seed {result['seed']} on." if models else ""
    return f"The first pictures of each, none of them chosen.{seeds}"


def sheet(result: Result, name: str, shown: Tensor) -> Picture:
    """A thing's first pictures."""
    scale = math.ceil(TILE / max(shown.shape[2:]))
    drawn = pictures.grid(shown.numpy(), min(len(shown), _columns(result)), scale)
    return Picture(pictures.png_bytes(drawn), f"The first {len(shown)} pictures of {name}", name)


def _columns(result: Result) -> int:
    """As many columns as there are classes in turn, so that each has its own, where they are few."""
    turns = {len(dict.fromkeys(row["shown"])) for row in result["things"] if row["shown"]}
    return turns.pop() if len(turns) == 1 and max(turns) <= 2 * COLUMNS and max(turns) > 3 else COLUMNS


def frechet_chart(result: Result) -> str:
    """The Fréchet distances with their intervals, between floor and ceiling."""
    dots = {row["name"]: _dot(row) for row in result["things"]}
    return interval_chart(dots, levels(result), "Fréchet distance: lower is better", f"distance, n = {result['n']:,}")


def cost_chart(result: Result) -> str:
    """The Fréchet distance of each model at what a sample costs."""
    models = [row for row in result["things"] if row["cost"] is not None]
    dots = {row["name"]: _dot(row, row["cost"]["seconds_per_sample"]) for row in models}
    floor = {name: level for name, level in levels(result).items() if name == LEVELS["held-out pictures"]}
    return dot_chart(dots, floor, "Quality and cost: lower left is better", "seconds a sample", "Fréchet distance")


def levels(result: Result) -> dict[str, float]:
    """Floor and ceiling of the Fréchet distance, by what they are."""
    return {LEVELS[row["name"]]: row["figures"]["frechet"] for row in result["scale"]}


def tiles(result: Result) -> list[Figure]:
    """The best thing by each of the chief measures, and the cheapest model."""
    columns = {column.key: column for column in (*tables.DISTANCES, *tables.SHARES)}
    found = [_tile(result, columns[key]) for key in TILES]
    models = [row for row in result["things"] if row["cost"] is not None]
    fastest = min(models, key=lambda row: row["cost"]["seconds_per_sample"], default=None)
    if fastest is not None:
        found.append(Figure("Fastest, seconds a sample", fastest["cost"]["seconds_per_sample"], fastest["name"], "s"))
    return [tile for tile in found if tile is not None]


def _tile(result: Result, column: tables.Column) -> Figure | None:
    having = [row for row in tables.comparable(result) if row["figures"][column.key] is not None]
    if not having:
        return None
    best = (min if column.better == "lower" else max)(having, key=lambda row: row["figures"][column.key])
    ends = [row["figures"][column.key] for row in result["scale"]]
    floor, ceiling = (column.scale * end for end in ends) if ends and column.better == "lower" else (None, None)
    value = column.scale * best["figures"][column.key]
    return Figure(f"Best {column.head}", value, best["name"], n=best["n"], floor=floor, ceiling=ceiling)


def _dot(row: Mapping[str, Any], x: float = math.nan) -> Dot:
    figures = row["figures"]
    return Dot(figures["frechet"], figures["frechet_low"], figures["frechet_high"], x)


def _cost_words(result: Result) -> str:
    return f"Fréchet distance with its interval of {result['level']:.0%}, at n = {result['n']:,}, against seconds a sample"
