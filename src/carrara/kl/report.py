"""What the report of a KlModel's run says of its latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrara.evaluation import reconstructions
from carrara.evaluation.report import Figure
from carrara.kl.model import KlModel, load


def write_report(folder: Path) -> Path:
    """Writes report.html for a finished run, see carrara.evaluation.reconstructions. Returns its path."""
    return reconstructions.write_report(folder, load(folder), MIDDLE)


def size(model: KlModel) -> str:
    """What a picture becomes, in words."""
    return f"{'×'.join(map(str, model.latents))} latents"


def tiles(found: Mapping[str, Any], model: KlModel) -> list[Figure]:
    """The figures of latents."""
    ratio = math.prod(model.shape) / math.prod(model.latents)
    return [Figure("Numbers of a picture to a latent", ratio, f"{size(model)} a picture")]


MIDDLE = reconstructions.Middle(
    size,
    tiles,
    "latents",
    (
        ("Divergence of latents from a standard normal", "nats a picture", {"divergence": "heldout_kl_ema"}),
        ("How wide a latent is before it is scaled", "deviation", {"deviation": "deviation_ema"}),
    ),
)
