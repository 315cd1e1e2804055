"""Samples of texts, and what they stand between at as many characters: held-out text, and the same with its words shuffled.

Windows of packed text begin and end anywhere, so of samples and of held-out windows alike the pieces at both edges are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.evaluation.inputs import shuffled
from carrara.evaluation.texts.figures import Looked
from carrara.evaluation.texts.judges import Judge
from carrara.evaluation.texts.words import first, inner, shuffled_words
from carrara.training.examples import Examples, examples_of

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

AT_ONCE = 256
SETS = ("samples", "heldout", "shuffled")


@dataclass(frozen=True, eq=False)
class Beside:
    """Three sets of texts with as many characters each, as they are looked at."""

    samples: Looked
    heldout: Looked
    shuffled: Looked
    characters: int

    @classmethod
    def of(cls, samples: Sequence[str], model: Model, dataset: Dataset, judge: Judge | None = None) -> Beside:
        """Of a model's samples; of both sides only as much as there is on the shorter one."""
        given = whole(samples, model.codec)
        real = first(heldout_texts(model, dataset), sum(map(len, given)))
        given = first(given, sum(map(len, real)))
        mine, heldout, words = (Looked(texts, judge) for texts in (given, real, shuffled_words(real)))
        return cls(mine, heldout, words, sum(map(len, given)))

    def figures(self, measures: Sequence[str]) -> dict[str, Any]:
        """Those measures of each of the SETS, with the characters and texts they are of."""
        found = {name: getattr(self, name).figures(measures) for name in SETS}
        return {**found, "characters": self.characters, "n": len(self.samples.texts)}


def heldout_texts(model: Model, dataset: Dataset) -> list[str]:
    """The text of every held-out window, as the model's codec has it, in a shuffled order that never changes."""
    _, heldout = examples_of(dataset, model.codec)
    return whole(_decoded(model.codec, heldout), model.codec)


def _decoded(codec: Any, heldout: Examples) -> list[str]:
    rows = shuffled(len(heldout))
    parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    found: list[str] = codec.together(codec.decode(heldout.batch(part)["x0"]) for part in parts)
    return found


def whole(texts: Sequence[str], codec: Any) -> list[str]:
    """The texts, without what the edges of packed windows may have cut."""
    return [inner(text) for text in texts] if getattr(codec, "layout", "") == "packed" else list(texts)
