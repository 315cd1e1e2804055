"""The measures of a set of texts, by name: what `carrara evaluate` and the studies of texts measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from carrara.evaluation.studies.study import Measure
from carrara.evaluation.texts.judges import Judge, Verdict
from carrara.evaluation.texts.words import REPEATED_N, distinct, entropy, longest_repeat, repeated, words

Figures = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Looked:
    """Texts, with what several measures share, found when it is first asked for."""

    texts: Sequence[str]
    judge: Judge | None = None

    @cached_property
    def words(self) -> list[list[str]]:
        """The words of each text."""
        return [words(text) for text in self.texts]

    @cached_property
    def verdict(self) -> Verdict:
        """What the judge says; of nothing where there is none."""
        return Verdict(0.0, 0, 0) if self.judge is None else self.judge.read(self.texts)

    def figures(self, measures: Sequence[str]) -> Figures:
        """Those measures; None where one means nothing here."""
        found = {name: MEASURES[name].of(self) for name in measures}
        return {name: None if value is None or math.isnan(value) else float(value) for name, value in found.items()}


def _distinct(looked: Looked, n: int) -> float:
    return distinct(looked.words, n)


def _longest(looked: Looked) -> float:
    lengths = [longest_repeat(text) for text in looked.texts]
    return sum(lengths) / len(lengths) if lengths else math.nan


def _measure(
    title: str, short: str, unit: str, meaning: str, of: Callable[[Looked], float], better: str = ""
) -> Measure[Looked]:
    return Measure(title, short, unit, meaning, better, of)


MEASURES: dict[str, Measure[Looked]] = {
    "perplexity": _measure(
        "Perplexity",
        "perplexity",
        "a unit",
        "How surprised the judge is by each unit.",
        lambda x: x.verdict.perplexity,
    ),
    "unknown": _measure(
        "Unknown to the judge",
        "unknown",
        "share",
        "Words that the judge does not know.",
        lambda x: x.verdict.unknown_share,
    ),
    "entropy": _measure(
        "Word entropy", "entropy", "bits a word", "The entropy of all words together.", lambda x: entropy(x.words)
    ),
    **{
        f"distinct_{n}": _measure(
            f"Distinct-{n}",
            f"distinct-{n}",
            "share",
            f"Different {n}-grams of words, for each there is.",
            partial(_distinct, n=n),
        )
        for n in (1, 2, 3)
    },
    "repeated": _measure(
        f"Repeated {REPEATED_N}-grams",
        "repeated",
        "share",
        f"{REPEATED_N}-grams of words that came before in their text.",
        lambda x: repeated(x.words),
    ),
    "longest": _measure(
        "Longest repeat", "longest", "characters", "The longest piece that comes twice in a text, its mean.", _longest
    ),
}
"""Every measure by its key in the results. None is better lower or higher: the nearest to held-out text is."""
