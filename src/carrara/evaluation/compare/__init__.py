"""Comparisons: models, folders of pictures and statistics files side by side, by the same measures, at the same n.

things.py     what can be compared, and how it is told what each is
against.py    what all of them are measured against
samples.py    a model's samples, kept in blocks, with what they cost
figures.py    the measures of one set of pictures
runner.py     the runner: samples, measures, keeps each piece as soon as it is there
tables.py     the results in rows and columns
page.py       the results as a self-contained page
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.evaluation.compare.page import write_page
from carrara.evaluation.compare.runner import FOLDER, Plan, planned, run, sheets
from carrara.evaluation.features import Features

if TYPE_CHECKING:
    from carrara.data import Dataset

__all__ = ["Plan", "compare", "planned", "run", "sheets", "write_page"]


def compare(
    things: Sequence[str | Path],
    n: int | None = None,
    reference: Dataset | Path | None = None,
    features: Features | str = "efficientnet",
    seed: int = 0,
    size: int | None = None,
    batch: int = 32,
    out: Path = Path(FOLDER),
    **wishes: Any,
) -> dict[str, Any]:
    """The figures of all things, as plain data ready for JSON; arguments and what is raised as in `planned`.

    `wishes` go to every model's `Model.plan`: steps, sampler, guidance_scale, …. A page of it: `write_page(run(plan), sheets(plan),
    path)` of what `planned` gives.
    """
    return run(planned(things, n, reference, features, seed, size, batch, out, lambda model: wishes))
