"""What a study is: cells, each a way of sampling one model, and what is measured in every one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.evaluation.report import Chart, Section
    from carrara.model import Model


L = TypeVar("L")


@dataclass(frozen=True)
class Measure(Generic[L]):
    """A figure of a set of pictures, or of texts, as they are looked at."""

    title: str
    short: str
    """The head of a table's column."""
    unit: str
    meaning: str
    better: str
    """Which way is better, "lower" or "higher"; "" where the nearest to what is held out is."""
    of: Callable[[L], float | None]


@dataclass(frozen=True)
class Cell:
    """One way of sampling: a point of the line `line` at `x`, sampled with these wishes to `Model.sample`.

    Of the samples it has the first `n`; None: all.
    """

    line: str
    x: float
    wishes: Mapping[str, Any]
    n: int | None = None


@dataclass(frozen=True)
class Study:
    """A question, answered by sampling a model in many ways from the same seeds and labels."""

    name: str
    title: str
    question: str
    """The page's introduction: what is asked and how to read the answer; an empty line begins a paragraph."""
    axis: str
    """What the values are that the cells stand at, e.g. "steps"."""
    values: tuple[float, ...]
    """The values measured unless others are asked for."""
    sets: tuple[str, ...]
    """The fields of `Sampling` that the cells set themselves, which cannot be wished for."""
    cells: Callable[[Model, Sequence[float]], list[Cell]]
    """The cells at these values, line by line. Raises InputError where the model cannot be studied so."""
    measures: tuple[str, ...]
    """Names in `carrara.evaluation.studies.ground.MEASURES`."""
    sections: Callable[[Mapping[str, Any]], list[Section]]
    """What the page shows beside the charts, the table and the pictures, from the study's results."""
    log_x: bool = True
    """Whether the charts' x axis is logarithmic."""
    sizes: Callable[[int], Sequence[float]] | None = None
    """The values for n samples, of a study whose values are numbers of samples; `values` is then empty."""
    guided: bool = False
    """Whether the recipe's own guidance holds where none is wished for; otherwise there is none."""
    charts: Callable[[Mapping[str, Any]], list[Chart]] | None = None
    """The page's charts, from the study's results; None: one for each measure."""
    reading: str = ""
    """How to read those."""

    def usual(self, n: int) -> Sequence[float]:
        """The values that are measured where nobody said, with n samples a cell."""
        return self.values if self.sizes is None else self.sizes(n)


def whole(values: Sequence[float], axis: str) -> list[int]:
    """The values as whole numbers. Raises InputError where one is not, or is below 1, or comes twice."""
    for value in values:
        if not float(value).is_integer() or value < 1:
            raise InputError(f"{value:g} is no number of {axis}: give whole numbers from 1 on, such as 5,10,50")
    numbers = [int(value) for value in values]
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"the study needs different numbers of {axis}, at least one; got {numbers}")
    return numbers


def guided(study: Study, guidance_scale: float) -> str:
    """In words, with how much guidance the cells are sampled."""
    if "guidance_scale" in study.sets:
        return "each scale of guidance"
    return "no guidance" if guidance_scale == 1 else f"guidance {guidance_scale:g}"
