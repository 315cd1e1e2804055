"""Texts on a report's page: samples below one another, and the film of texts as they are made, step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from carrara.errors import InputError

Frame = tuple[float, Sequence[str], Sequence[str]]
"""(t, the texts x_t, the texts that are believed in at t)."""

PICTURED, DELETED = 0x2400, 0x2421
"""Where Unicode's pictures of control characters begin, and that of the last of ASCII."""
_CONTROLS = {code: PICTURED + code for code in range(32) if code not in (9, 10)}
_CONTROLS |= {127: DELETED, **dict.fromkeys(range(128, 160), 0xFFFD)}
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def visible(text: str) -> str:
    """The text with a sign in place of each control character but tab and line end, and of what turns the writing's direction.

    A model of bytes may write anything, and a terminal would do what it is told.
    """
    return text.translate(_CONTROLS | _TURNS)


def listing(texts: Sequence[str], heads: Sequence[str]) -> str:
    """The texts below one another, each under its head, an empty line between two; for people."""
    return "\n".join(f"{visible(head)}\n{visible(text)}\n" for head, text in zip(heads, texts, strict=True))


@dataclass(frozen=True)
class Texts:
    """Texts as they are, line ends and all, each under its head. Raises InputError where there are not as many heads as texts."""

    kind: ClassVar[str] = "texts"
    texts: Sequence[str]
    heads: Sequence[str]

    def __post_init__(self) -> None:
        _check_heads(self.texts, self.heads)

    @property
    def items(self) -> list[tuple[str, str]]:
        """(head, text as it can be seen) of each."""
        return [(visible(head), visible(text)) for head, text in zip(self.heads, self.texts, strict=True)]


@dataclass(frozen=True)
class Film:
    """The film of some texts, to be played and stepped through; without a script, and on paper, its last step.

    Of more than `most` steps as many are shown, evenly spaced, the first and the last among them. Raises InputError for no step,
    and where there are not as many heads as texts.
    """

    kind: ClassVar[str] = "film"
    script: ClassVar[str] = "film.js"
    frames: Sequence[Frame]
    heads: Sequence[str]
    caption: str = ""
    most: int = 128

    def __post_init__(self) -> None:
        if not self.frames:
            raise InputError("a film needs at least one step; none was given")
        for _, *sides in self.frames:
            for texts in sides:
                _check_heads(texts, self.heads)

    @cached_property
    def shown(self) -> list[Frame]:
        """The steps that are shown."""
        last = len(self.frames) - 1
        count = min(self.most, last + 1)
        return [self.frames[round(last * k / max(count - 1, 1))] for k in range(count)]

    @property
    def last(self) -> list[tuple[str, str, str]]:
        """(head, x_t, what is believed in) of each text in the last step, as they can be seen."""
        _, x_t, x0 = self.shown[-1]
        return [(visible(head), visible(x), visible(y)) for head, x, y in zip(self.heads, x_t, x0, strict=True)]

    @property
    def data(self) -> str:
        """JSON of what the script shows: the steps' times, all texts once, and for both sides of a step which of them they are."""
        texts: dict[str, int] = {}
        sides = [
            [[texts.setdefault(visible(text), len(texts)) for text in side] for side in (x_t, x0)]
            for _, x_t, x0 in self.shown
        ]
        times = [round(t, 4) for t, *_ in self.shown]
        return json.dumps({"times": times, "texts": list(texts), "steps": sides}, ensure_ascii=False)


def _check_heads(texts: Sequence[str], heads: Sequence[str]) -> None:
    if len(texts) != len(heads):
        raise InputError(f"{len(texts)} texts were given and {len(heads)} heads; give one for each")
