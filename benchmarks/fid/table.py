"""The tables of docs/measure.md that `benchmarks.fid_floor` fills from its own JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carrara import files
from carrara.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "measure.md"
NONE = "–"

Figures = Mapping[str, Any]


def tables(figures: Figures) -> dict[str, str]:
    """The text of each block by the name in its marks."""
    return {"fid-floor": floor(figures), "fid-peers": peers(figures)}


def filled(page: str, figures: Figures) -> str:
    """A page with its blocks filled. Raises InputError where one is missing."""
    for name, text in tables(figures).items():
        block = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.DOTALL)
        if block is None:
            raise InputError(f"the page has no block <!-- {name} --> … <!-- /{name} --> to fill")
        page = f"{page[: block.start(1)]}\n{text}\n\n{page[block.end(1) :]}"
    return page


def fill(figures: Figures, path: Path = PAGE) -> None:
    """Fills the blocks of a page in its file."""
    files.write(path, filled(path.read_text(), figures))


def floor(figures: Figures) -> str:
    """The FIDs of held-out pictures and of the model's samples, a row an n."""
    sizes = sorted({int(name.removeprefix("floor_")) for name in figures if name.startswith("floor_")})
    if not sizes:
        return "*Not measured yet: `make bench-fid-floor` measures it, in an hour and a half, and writes the table here.*"
    heads = ("n", "held-out", "at infinite n", "both at infinite n", "model", "at infinite n")
    cells = [[f"{n:,}", *_heldout(figures, n), *_model(figures, n)] for n in sizes]
    against = f"Against {figures['reference_n']:,} training pictures"
    return f"{_table(heads, cells)}\n\n{against}; {figures['features']}, {figures['resizer']}. ± is a 95 % interval."


def peers(figures: Figures) -> str:
    """Other tools' figures beside ours."""
    rows = figures.get("peers", ())
    if not rows:
        return "*Not measured yet: `make bench-fid-peers` measures it and writes the table here.*"
    heads = ("tool", "resizer", "folders", "n", "theirs", "ours", "difference")
    return _table(heads, [_peer(row) for row in rows])


def _peer(row: Figures) -> list[str]:
    return [
        f"{row['tool']} {row['version']}",
        row["resizer"].partition(":")[0],
        " and ".join(row["folders"]),
        f"{row['n']:,}",
        f"{row['theirs']:.4f}",
        f"{row['ours']:.4f}",
        f"{row['difference']:+.1e}",
    ]


def _heldout(figures: Figures, n: int) -> list[str]:
    infinite = _interval(figures, f"infinite_{n}", f"low_{n}", f"high_{n}")
    return [_cell(figures.get(f"floor_{n}")), infinite, _cell(figures.get(f"both_{n}"))]


def _model(figures: Figures, n: int) -> list[str]:
    if figures.get("model_n") != n:
        return [NONE, NONE]
    return [_cell(figures[f"model_{n}"]), _interval(figures, "model_infinite", "model_low", "model_high")]


def _interval(figures: Figures, value: str, low: str, high: str) -> str:
    if value not in figures:
        return NONE
    return f"{_cell(figures[value])} ± {_cell((figures[high] - figures[low]) / 2)}"


def _cell(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    first, *rest = (f"| {' | '.join(line)} |" for line in (heads, *cells))
    return "\n".join([first, f"|{'---|' * len(heads)}", *rest])
