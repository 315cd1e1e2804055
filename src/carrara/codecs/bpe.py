"""Texts as byte pairs: the pieces that are most frequent in the training texts, and every byte, so nothing is unknown."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from carrara import files
from carrara.codecs.layouts import Layout
from carrara.codecs.texts import TextCodec, utf8
from carrara.errors import DamagedFile, InputError, MissingExtra

STATE = "tokenizer.json"
_LEAST = 257
_TEXTS_AT_ONCE = 1024


class Bpe(TextCodec):
    """Byte pair encoding, of bytes; its state is a tokenizer.json that the library tokenizers reads.

    vocab: the number of tokens with the end, 257 or more; fewer where the training texts have no more pairs. Other
    options as for `TextCodec`. Raises InputError for a smaller vocabulary.
    Source: R. Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016, arXiv 1508.07909.
    """

    kind = "bpe"

    def __init__(self, length: int = 128, layout: Layout = "packed", vocab: int = 1024) -> None:
        super().__init__(length, layout)
        if vocab < _LEAST:
            raise InputError(
                f"codec.vocab is {vocab}; the bytes and the end alone are {_LEAST}: give more, such as 1024"
            )
        self.asked = vocab
        self._tokenizer: Any = None
        self._json = ""

    def fit(self, texts: Iterable[str]) -> Self:
        """The codec with the pairs of these texts. Raises MissingExtra where the library tokenizers is not installed."""
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        # The regular expression keeps pairs within words; without it frequent phrases would fill a small vocabulary.
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        # No special token: its name, written in a text, would be taken for it. The end is one more number.
        trainer = library.trainers.BpeTrainer(
            vocab_size=self.asked - 1,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer=trainer)
        return self._of(tokenizer)

    def _of(self, tokenizer: Any) -> Self:
        size = tokenizer.get_vocab_size()
        made = self._made(map(_piece, map(tokenizer.id_to_token, range(size))))
        made._tokenizer, made._json = tokenizer, tokenizer.to_str()
        return made

    def tokens(self, text: str) -> npt.NDArray[Any]:
        """int32 (n,). Raises InputError for half a surrogate pair, and before the codec was fitted or restored."""
        utf8(text)
        return next(self.tokens_of([text]))

    def tokens_of(self, texts: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """The tokens of each text, many texts at once."""
        _ = self.pieces
        rest = iter(texts)
        while some := list(islice(rest, _TEXTS_AT_ONCE)):
            for found in self._tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield np.array(found.ids, dtype=np.int32)

    def making(self) -> dict[str, Any]:
        """The options that decide, with the texts, what tokens there are."""
        return {**super().making(), "vocab": self.asked}

    def state(self) -> bytes:
        """The tokenizer, as JSON; nothing before the codec was fitted or restored."""
        return self._json.encode()

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json. Raises InputError before the codec was fitted or restored."""
        _ = self.pieces
        files.write(folder / STATE, self._json)

    def restore(self, folder: Path) -> Self:
        """This codec with the tokenizer that was saved. Raises DamagedFile where it is not there, MissingExtra as `fit`."""
        path, library = folder / STATE, _library()
        try:
            return self._of(library.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        # The library raises bare Exceptions for what it cannot parse.
        except Exception as error:
            raise DamagedFile(f"{path} holds no tokenizer of bytes: it is missing or damaged ({error})") from error


def _library() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise MissingExtra("tokenizers", "text", "the codec bpe") from error


def _piece(token: str) -> bytes:
    """The bytes of a token, which the library spells with a visible character for each byte."""
    return bytes(_BYTES[character] for character in token)


def _visible() -> dict[str, int]:
    """Character -> byte: the printable ones of Latin-1 stand for themselves, the others for the 68 from U+0100 on, in order.

    Source: OpenAI's GPT-2, whose vocabulary files began it.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(0x100 + n): value for n, value in enumerate(others)}


_BYTES = _visible()
