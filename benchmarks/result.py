"""The result of a benchmark: a table to read, JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from carrara import about, files

RESULTS = Path(__file__).parent / "results"


def known(name: str) -> dict[str, Any]:
    """What results/NAME.json holds; nothing where there is none."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = files.read_json(path) if path.is_file() else {}
    return found


def report(name: str, figures: Mapping[str, Any], notes: Mapping[str, str]) -> None:
    """Prints the figures with a note on each, then one JSON object, and writes that to results/NAME.json.

    What was made when, on what, is added, where `figures` do not say it themselves under "made".
    """
    table = Table(title=name)
    for column in ("figure", "value", "what it is"):
        table.add_column(column)
    for key, value in figures.items():
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else str(value), notes.get(key, ""))
    Console().print(table)
    result = {"made": about.surroundings(), **figures}
    print(json.dumps(result))
    RESULTS.mkdir(exist_ok=True)
    files.write_json(RESULTS / f"{name}.json", result)
