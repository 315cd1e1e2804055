"""How wrong a text is where the right one is known: edit distance, and the shares of symbols and of texts that are wrong.

symbol error     edits for each symbol of the references: of sounds the phoneme error rate, of words the word error rate
text error       the share of texts that are not their reference; of words that are spoken the word error rate
token accuracy   the share of the references' tokens that stand in their places
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from carrara.errors import InputError

Symbols = Sequence[Hashable]


def edit_distance(given: Symbols, reference: Symbols) -> int:
    """The fewest symbols to put in, take out or exchange that make one sequence the other. Source: Levenshtein, 1966."""
    if len(given) < len(reference):
        given, reference = reference, given
    above = list(range(len(reference) + 1))
    for row, mine in enumerate(given, start=1):
        line = [row]
        for column, other in enumerate(reference, start=1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (mine != other)))
        above = line
    return above[-1]


@dataclass(frozen=True)
class Errors:
    """How wrong texts are, beside their references; `as_dict()` is for JSON."""

    symbol_error: float
    """Edits for each symbol of the references; above 1 where more is put in than there is."""
    text_error: float
    """The share of texts that are not their reference."""
    edits: int
    symbols: int
    """Of all references."""
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """All fields, as JSON takes them."""
        return asdict(self)


def errors(given: Sequence[Symbols], references: Sequence[Symbols]) -> Errors:
    """The Errors of texts, or of lists of symbols ("HH AH0".split()), each beside its reference.

    Raises InputError for other numbers of them, and for references that are all empty.
    """
    _check(len(given), len(references))
    symbols = sum(map(len, references))
    if not symbols:
        raise InputError("all references are empty, and errors are counted for each of their symbols")
    edits = [edit_distance(mine, right) for mine, right in zip(given, references, strict=True)]
    wrong = sum(count > 0 for count in edits)
    return Errors(sum(edits) / symbols, wrong / len(edits), sum(edits), symbols, len(edits))


def token_accuracy(given: Tensor, reference: Tensor, end: int | None = None) -> float:
    """The share of ids (B, L) that are the reference's at their places; where `end` is given, up to each reference's first end.

    That first end token counts, what fills the window after it does not. Raises InputError for other shapes, or none.
    """
    if given.shape != reference.shape or given.ndim != 2 or not reference.numel():
        raise InputError(
            f"tokens of shape {tuple(given.shape)} and {tuple(reference.shape)} cannot be compared: give both (B, L), not empty"
        )
    same = given == reference
    if end is None:
        return float(same.double().mean())
    ends = reference == end
    counted = ends.cumsum(1) - ends.long() == 0
    return float(same[counted].double().mean())


def _check(given: int, references: int) -> None:
    if given != references or not given:
        raise InputError(f"{given} texts and {references} references were given; give as many of both, at least one")
