"""What the codecs of texts share: a token stands for some bytes, the last token of the vocabulary ends a text and pads."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.codecs.layouts import Ids, Layout, packed, rows
from carrara.data.documents import leads
from carrara.errors import InputError

PLACEHOLDER = "▁"
"""What is shown for a token that is none of the vocabulary: a mask that is left over."""


@dataclass(frozen=True)
class Sizes:
    """How much text some tokens stand for."""

    characters: int
    bytes: int


class TextCodec(ABC):
    """Texts as ids, int64 (B, length) from 0 to vocab − 1, of which the last, `end`, ends a text and pads.

    length: the tokens of a window. layout: packed, for texts one after another, each followed by an end token, cut into
    windows; or rows, a text a window, filled up with end tokens, which pairs and labels need. Raises InputError for a
    length under 1 or another layout.
    """

    kind: ClassVar[str]
    once: ClassVar[bool] = True

    def __init__(self, length: int, layout: Layout) -> None:
        if length < 1:
            raise InputError(f"a window of {length} tokens holds nothing; give codec.length 1 or more")
        if layout not in ("packed", "rows"):
            raise InputError(f"codec.layout is {layout!r}; it is packed or rows")
        self.length, self.layout = length, layout
        self._pieces: tuple[bytes, ...] | None = None

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The bytes that each token but the last stands for. Raises InputError before the codec was fitted or restored."""
        if self._pieces is None:
            raise InputError(
                f"the codec {self.kind} is made from texts, and has none yet: fit it (carrara.codecs.encoded.fitted) or "
                "restore it from a model's folder"
            )
        return self._pieces

    @property
    def end(self) -> int:
        """The token that ends a text and pads, the last of the vocabulary."""
        return len(self.pieces)

    @property
    def vocab(self) -> int:
        """How many tokens there are; ids from there on, a mask, decode to a placeholder."""
        return len(self.pieces) + 1

    @abstractmethod
    def tokens(self, text: str) -> npt.NDArray[Any]:
        """The tokens of a text, any integers (n,), no end token. Raises InputError for what the codec does not know."""

    def check(self, prompt: str) -> None:
        """Raises InputError for the first character of a prompt that the codec does not know, PLACEHOLDER aside, with its place."""
        utf8(prompt)

    def tokens_of(self, texts: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """The tokens of each text of a dataset, where what the codec does not know is no error."""
        return map(self.tokens, texts)

    def encode(self, media: Sequence[str]) -> Tensor:
        """ids int64 (B, length), a text a window, filled up with end tokens.

        Raises InputError for anything but a list of texts, for texts that are longer than a window, and as `tokens`.
        """
        if isinstance(media, str) or not all(isinstance(text, str) for text in media):
            raise InputError(
                f"the codec {self.kind} encodes a list of texts, and was given {_called(media)}; give texts, or choose "
                "the codec pixels for pictures"
            )
        found = [self.tokens(text) for text in media]
        for number, tokens in enumerate(found):
            if len(tokens) > self.length:
                raise InputError(
                    f"text number {number} comes to {len(tokens)} tokens, and a window holds {self.length}; shorten it, or use "
                    "a longer codec.length"
                )
        windows = [*rows(found, self.length, self.end), np.empty((0, self.length), np.int32)]
        return torch.from_numpy(np.concatenate(windows)).long()

    def decode(self, ids: Tensor) -> list[str]:
        """The text of each window (B, L), whatever the ids are: broken UTF-8 becomes �, what is no token ▁.

        In rows a text stops at its first end token; packed, end tokens between texts become line ends.
        """
        return [self._said(row) for row in ids.tolist()]

    def _said(self, row: list[int]) -> str:
        if self.layout == "rows":
            row = row[: row.index(self.end)] if self.end in row else row
        while row and row[-1] == self.end:
            row = row[:-1]
        return b"".join(map(self._piece, row)).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        if 0 <= token < self.end:
            return self.pieces[token]
        return b"\n" if token == self.end else PLACEHOLDER.encode()

    def shape(self, media_shape: tuple[int, ...] = ()) -> tuple[int, ...]:
        """(length,): the shape of one window; texts themselves have none."""
        return (self.length,)

    def told(self, media_shape: tuple[int, ...] = ()) -> dict[str, int]:
        """What a network is told of x0: how many tokens there are, and how many a window holds."""
        return {"vocab": self.vocab, "length": self.length}

    def start(
        self, start: str | Sequence[str], mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor]:
        """(ids (count, length), what is to be made, bool): what follows a text, and each PLACEHOLDER in it, which is one token.

        Raises InputError for a mask, for another number of texts than one or `count`, and as `encode`.
        """
        texts = [start] if isinstance(start, str) else list(start)
        if mask is not None:
            raise InputError(
                f"texts say themselves where something is to be made: write {PLACEHOLDER} for a token, and no mask"
            )
        if len(texts) not in (1, count):
            raise InputError(f"{len(texts)} texts were given for {count} samples; give one, or one for each")
        windows = [self._begun(text) for text in texts]
        ids, made = (torch.stack(parts).expand(count, -1) for parts in zip(*windows, strict=True))
        return ids, made

    def _begun(self, text: str) -> tuple[Tensor, Tensor]:
        """A window that begins with the text, and where it is to be made."""
        self.check(text)
        parts = [self.tokens(part).astype(np.int64) for part in text.split(PLACEHOLDER)]
        gap = np.full(1, -1)
        row = np.concatenate([piece for part in parts for piece in (part, gap)][:-1])
        if len(row) > self.length:
            raise InputError(
                f"the text comes to {len(row)} tokens, and a window holds {self.length}; shorten it, or use a model of a longer one"
            )
        filled = torch.from_numpy(np.pad(row, (0, self.length - len(row)), constant_values=-1))
        return filled.clamp(min=0), filled < 0

    def together(self, parts: Iterable[Sequence[str]]) -> list[str]:
        """Lists of decoded texts as one."""
        return [text for part in parts for text in part]

    def windows(self, texts: Iterable[str]) -> Iterator[Ids]:
        """The windows (n, length) of a dataset's texts, block by block, in the codec's layout; in rows one for each text."""
        lay = packed if self.layout == "packed" else rows
        return lay(self.tokens_of(texts), self.length, self.end)

    def sizes(self, ids: npt.NDArray[Any]) -> Sizes:
        """The characters and bytes that tokens of any shape stand for; end tokens and masks stand for none.

        A character that a window's edge cuts in two counts where its first byte is, so over windows in a row none is counted twice.
        """
        characters, lengths = self.measures()
        counts = np.bincount(np.ravel(ids), minlength=self.end)[: self.end]
        return Sizes(int(counts @ characters), int(counts @ lengths))

    def measures(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The characters that begin in each token but the last, and its bytes, both (end,)."""
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.int64)
        first = np.array([leads(np.frombuffer(piece, np.uint8)).sum() for piece in self.pieces], dtype=np.int64)
        return first, lengths

    def making(self) -> dict[str, Any]:
        """The options that decide, with the texts, what tokens there are; ready for JSON."""
        return {"kind": self.kind}

    def state(self) -> bytes:
        """What the codec was made to be by its texts; nothing where it needs none, or has none yet."""
        return b""

    def identity(self) -> str:
        """sha256 (hex) of options and state: codecs with the same encode alike."""
        options = {**self.making(), "length": self.length, "layout": self.layout}
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode() + b"\n" + self.state()).hexdigest()

    def save(self, folder: Path) -> None:  # noqa: B027 - most have none
        """Writes the codec's state into a folder; nothing where it has none."""

    def restore(self, folder: Path) -> Self:
        """This codec with the state that was saved in the folder. Raises DamagedFile where it is not what was written."""
        return self

    def _made(self, pieces: Iterable[bytes]) -> Self:
        made = copy.copy(self)
        made._pieces = tuple(pieces)
        return made


def utf8(text: str) -> bytes:
    """The text's bytes. Raises InputError for half a surrogate pair, which is no character."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds half a surrogate pair, U+{ord(text[error.start]):04X} at position {error.start}; "
            "leave it out or read the text as UTF-8"
        ) from error


def _called(media: Any) -> str:
    if isinstance(media, Tensor):
        return f"a tensor of shape {tuple(media.shape)}"
    return "one text" if isinstance(media, str) else f"a {type(media).__name__} of something else"
