"""Which studies there are of pictures and of texts, and what plans, runs and shows them: the one place that asks the media."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara.errors import InputError
from carrara.evaluation.studies import STUDIES, Study, ground, page, run
from carrara.evaluation.studies.study import Measure
from carrara.evaluation.texts import figures, noise
from carrara.evaluation.texts import page as text_page
from carrara.evaluation.texts import run as text_run


@dataclass(frozen=True)
class Medium:
    """How media of one kind are studied."""

    studies: Mapping[str, Study]
    planned: Callable[..., Any]
    run: Callable[..., dict[str, Any]]
    """(plan, progress) -> results."""
    sheets: Callable[[Any], Any]
    """The first samples, for the page."""
    write_page: Callable[[Study, Mapping[str, Any], Any, Path], Path]
    measures: Mapping[str, Measure[Any]]
    worst: str
    """What is measured as the worst that can be expected."""
    asks: str
    """The option that says who or what measures."""

    def study(self, name: str, noun: str) -> Study:
        """The study of that name. Raises InputError where it is of other media."""
        if name in self.studies:
            return self.studies[name]
        raise InputError(
            f"there is no study {name!r} of {noun}s: of these there are {', '.join(sorted(self.studies))}"
        )


MEDIA = {
    "picture": Medium(
        STUDIES, run.planned, run.run, run.sheets, page.write_page, ground.MEASURES, page.NOISE, "features"
    ),
    "text": Medium(
        noise.TEXT_STUDIES,
        text_run.planned,
        text_run.run,
        text_run.sheets,
        text_page.write_page,
        figures.MEASURES,
        "shuffled words",
        "judge",
    ),
}
"""By what one of the media is called, see `carrara.data.dataset.Split.noun`."""
