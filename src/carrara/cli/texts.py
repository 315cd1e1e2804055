"""How `carrara evaluate` shows figures of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carrara.cli.voice import Voice


def show(found: dict[str, Any], voice: Voice) -> None:
    """The bits of held-out text beside plain models, then the figures of samples beside held-out and shuffled text."""
    from carrara.evaluation.texts import told

    if "bits" in found:
        _table(
            ("held-out text", "bits/character", "± s.e.", "bits/byte", "bits/token"),
            told.bits_rows(found["bits"]),
            voice,
        )
        _lines(told.bits_meanings(found["bits"]), voice)
    if table := told.rows(found):
        _table(told.COLUMNS, table, voice)
        _lines(told.meanings(found), voice)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], voice: Voice) -> None:
    """A table whose columns are numbers, but the first and what is last called "of"."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 or head == "of" else "right")
    for row in rows:
        table.add_row(*row)
    voice.say()
    voice.show(table)


def _lines(lines: Sequence[str], voice: Voice) -> None:
    voice.say()
    for line in lines:
        voice.say(line)
