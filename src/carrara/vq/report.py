"""What the report of a VqModel's run says of its words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrara.evaluation import reconstructions
from carrara.evaluation.report import Figure
from carrara.vq.model import VqModel, load


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run, see carrara.evaluation.reconstructions. Returns its path."""
    return reconstructions.write_report(folder, load(folder), MIDDLE)


def size(model: VqModel) -> str:
    """What a picture becomes, in words."""
    return f"{'×'.join(map(str, model.grid))} words out of {model.vocab:,}"


def tiles(found: Mapping[str, Any], model: VqModel) -> list[Figure]:
    """The figures of words."""
    return [
        Figure(
            "Perplexity of words",
            found["perplexity"],
            f"as many as equally frequent ones; {100 * found['used']:.0f} % of the vocabulary occurs",
            n=found["n"],
            floor=1,
            ceiling=model.vocab,
        )
    ]


MIDDLE = reconstructions.Middle(
    size, tiles, "words", (("Perplexity of words", "words", {"of words": "perplexity_ema"}),)
)
