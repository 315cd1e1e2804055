"""Texts as characters: a token for each that the training texts have, for alphabets of sounds and for Chinese."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from carrara import files
from carrara.codecs.layouts import Layout
from carrara.codecs.texts import PLACEHOLDER, TextCodec, utf8
from carrara.errors import DamagedFile, InputError

UNKNOWN = "�"
STATE = "characters.json"


class Characters(TextCodec):
    """A token for each character (code point), sorted, then one for all unknown ones and the end.

    least: a character seen fewer times than that in the training texts is unknown, so that the unknown is learned too;
    in a dataset's texts it becomes �, in a prompt it is refused by name. Other options as for `TextCodec`. Raises
    InputError for `least` under 1.
    """

    kind = "characters"

    def __init__(self, length: int = 256, layout: Layout = "packed", least: int = 2) -> None:
        super().__init__(length, layout)
        if least < 1:
            raise InputError(f"codec.least is {least}; give 1, for every character that is seen, or more, such as 2")
        self.least = least
        self._codes = np.empty(0, np.uint32)

    def fit(self, texts: Iterable[str]) -> Self:
        """The codec with the characters of these texts. Raises InputError where none is seen `least` times."""
        seen: Counter[str] = Counter()
        for text in texts:
            seen.update(text)
        return self._of("".join(sorted(c for c, count in seen.items() if count >= self.least and c != UNKNOWN)))

    def _of(self, known: str) -> Self:
        if not known:
            raise InputError(f"no character is seen {self.least} times in the training texts: give more of them")
        made = self._made([character.encode() for character in (*known, UNKNOWN)])
        made._codes = _codes(known)
        return made

    @property
    def known(self) -> str:
        """The characters that have a token of their own, in the tokens' order."""
        return b"".join(self.pieces[:-1]).decode()

    def tokens(self, text: str) -> npt.NDArray[Any]:
        """int64 (n,). Raises InputError for the first character that is unknown, with its name and place."""
        found = self._looked_up(text)
        self._refuse(text, found == self.end - 1)
        return found

    def check(self, prompt: str) -> None:
        """Raises InputError as `tokens`, with the place in the whole prompt."""
        unknown = self._looked_up(prompt) == self.end - 1
        self._refuse(prompt, unknown & (_codes(prompt) != ord(PLACEHOLDER)))

    def _refuse(self, text: str, unknown: npt.NDArray[np.bool_]) -> None:
        if unknown.any():
            at = int(unknown.argmax())
            raise InputError(
                f"the character {text[at]!r} (U+{ord(text[at]):04X}) at position {at} of the text was not among the training "
                "texts' characters; leave it out or write it otherwise (the codecs bytes and bpe know every character)"
            )

    def tokens_of(self, texts: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """The tokens of each text, one for each character, known or not."""
        return map(self._looked_up, texts)

    def _looked_up(self, text: str) -> npt.NDArray[np.int64]:
        utf8(text)
        codes, last = _codes(text), self.end - 2
        at = np.minimum(np.searchsorted(self._codes, codes), last)
        return np.where(self._codes[at] == codes, at, self.end - 1)

    def making(self) -> dict[str, Any]:
        """The options that decide, with the texts, what tokens there are."""
        return {**super().making(), "least": self.least}

    def state(self) -> bytes:
        """The known characters; nothing before the codec was fitted or restored."""
        return b"" if self._pieces is None else self.known.encode()

    def save(self, folder: Path) -> None:
        """Writes the characters as JSON."""
        files.write_json(folder / STATE, {"characters": self.known})

    def restore(self, folder: Path) -> Self:
        """This codec with the characters that were saved. Raises DamagedFile where they are not there."""
        found = files.read_json(folder / STATE) if (folder / STATE).is_file() else None
        if not isinstance(found, dict) or not isinstance(found.get("characters"), str) or not found["characters"]:
            raise DamagedFile(f"{folder / STATE} holds no characters: it is missing or damaged")
        return self._of(found["characters"])


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4")).astype(np.uint32)
