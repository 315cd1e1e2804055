"""A source sequence as a condition: the text that another is to be made from, such as a spelling."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from carrara import files
from carrara.codecs.encoded import fitted
from carrara.codecs.nested import text_codec
from carrara.codecs.texts import TextCodec
from carrara.data.dataset import Dataset
from carrara.data.documents import Documents
from carrara.denoisers import Cond
from carrara.errors import DamagedFile, InputError

CODEC = {"kind": "characters"}
EXAMPLES = "examples.json"
_EXAMPLES = 24
"""How many held-out sources are kept, to be shown where nobody asks for one."""

Source = str | Sequence[str]


class SourceCondition:
    """{"source": (B, S) int64}: a text's tokens by a codec of its own, filled up with its end; the codec's vocab is the null.

    The codec is made from the sources of training, and saved with the model, with a few held-out sources as examples.
    """

    def __init__(self, codec: Mapping[str, Any] = CODEC, dropout: float = 0.0) -> None:
        """`codec`: as a recipe's section codec, of a kind for texts: {kind: characters, length: 24}; a source is a window.

        `dropout`: the share of training samples that are shown the null, which classifier-free guidance needs. Raises InputError
        for a share out of range, RecipeError for a codec that is none of texts or does not give each its window.
        """
        if not 0 <= dropout < 1:
            raise InputError(f"condition.dropout is {dropout}; it must be at least 0 and below 1")
        self.codec, self.dropout = _codec(codec), dropout
        self.examples: tuple[str, ...] = ()

    def told(self) -> dict[str, int]:
        """What a network is told of it: how many tokens a source may be made of, and how many it has."""
        return {"source_vocab": self.codec.vocab, "source_length": self.codec.length}

    def fit(self, dataset: Dataset) -> Self:
        """The condition with its codec made from the training sources. Raises InputError for a dataset that has no sources."""
        if dataset.train.sources is None or dataset.heldout.sources is None:
            raise InputError(
                f"condition kind 'source' needs pairs, and the dataset {dataset.name} has no sources: choose one of pairs, such as "
                "words, gloss or texts with source:, or another condition"
            )
        codec = fitted(self.codec, dataset, of="sources")
        made = self._with(codec, islice(_whole(codec, dataset.heldout.sources), _EXAMPLES))
        for _ in made.codec.windows(dataset.train.sources):
            pass  # The log then says how many are cut.
        return made

    def _with(self, codec: TextCodec, examples: Iterable[str]) -> Self:
        made = copy.copy(self)
        made.codec, made.examples = codec, tuple(examples)
        return made

    def encode(self, batch: Mapping[str, Any]) -> Cond:
        """The sources of a batch of data: what the codec does not know is its unknown, what is longer than a window is cut."""
        return {"source": self._ids(batch["source"])}

    def _ids(self, texts: Iterable[str]) -> torch.Tensor:
        length, rows = self.codec.length, [tokens[: self.codec.length] for tokens in self.codec.tokens_of(texts)]
        filled = [np.pad(row, (0, length - len(row)), constant_values=self.codec.end) for row in rows]
        return torch.from_numpy(np.stack(filled).astype(np.int64))

    def ask(self, count: int, source: Source | None = None, **wishes: Any) -> Cond:
        """One source for all samples, or one each; None: the examples in turn, and the null where there are none.

        Raises InputError for a source with an unknown character or longer than a window, with its name and place, for a wrong
        number of sources, or any other wish.
        """
        if any(value is not None for value in wishes.values()):
            raise InputError(f"this model is asked for by source; it does not know {', '.join(wishes)}")
        if source is None and not self.examples:
            return self.null(count)
        return {"source": self._asked(self.sources(count, source))}

    def sources(self, count: int, source: Source | None = None) -> list[str]:
        """The source of each of `count` samples: what was asked for, or the examples in turn. Raises InputError as `ask`."""
        if source is None:
            return [self.examples[index % len(self.examples)] for index in range(count)] if self.examples else []
        texts = [source] * count if isinstance(source, str) else list(source)
        if len(texts) != count:
            raise InputError(f"{len(texts)} sources were given for {count} samples; give one, or one for each")
        return texts

    def _asked(self, texts: Sequence[str]) -> torch.Tensor:
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"a source is a text, and {text!r} is a {type(text).__name__}")
            self._check(text)
        return self._ids(texts)

    def _check(self, text: str) -> None:
        """Raises InputError for a source that the codec does not hold whole."""
        try:
            count = len(self.codec.tokens(text))
        except InputError as error:
            raise InputError(f"the source {text!r}: {error}") from error
        if count > self.codec.length:
            raise InputError(
                f"the source {text!r} comes to {count} tokens, and this model reads {self.codec.length}; shorten it, or train "
                "with a longer condition.codec.length"
            )

    def null(self, count: int) -> Cond:
        """The source of nothing: each token the null."""
        return {"source": torch.full((count, self.codec.length), self.codec.vocab)}

    def save(self, folder: Path) -> None:
        """Writes what the codec was made of and the examples into an empty folder."""
        self.codec.save(folder)
        files.write_json(folder / EXAMPLES, {"sources": list(self.examples)})

    def restore(self, folder: Path) -> Self:
        """This condition as it was saved there. Raises DamagedFile where it is not."""
        path = folder / EXAMPLES
        found = files.read_json(path) if path.is_file() else None
        texts = found.get("sources") if isinstance(found, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DamagedFile(f"{path} holds no sources: it is missing or damaged")
        return self._with(self.codec.restore(folder), texts)


def _whole(codec: TextCodec, texts: Documents) -> Iterator[str]:
    """Those that the codec holds whole: some that are spread over all of them, then their neighbours, and so on."""
    apart = -(-len(texts) // _EXAMPLES)
    for first in range(apart):
        for text in texts.chosen(np.arange(first, len(texts), apart)):
            try:
                fits = len(codec.tokens(text)) <= codec.length
            except InputError:
                continue
            if fits:
                yield text


def _codec(options: Mapping[str, Any]) -> TextCodec:
    """The codec of these options, which gives each text its window."""
    words = "sources are texts, a window each: choose kind bytes, bpe or characters, layout rows"
    return text_codec(options, "condition", words, layout="rows")
