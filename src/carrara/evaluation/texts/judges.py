"""Judges: outside readers of a text, who say how probable it is to them.

    pocketsphinx      trigrams of English words, from the package of that name; a word it does not know is left out of the count
    a run's folder    an autoregressive model of our own, best trained on other data; it reads tokens

The perplexity a judge gives is exp of its nats for each unit it reads, a word or a token: a figure of one judge is comparable with
figures of that judge alone. It is lowest for text that says the same probable thing again and again: so never without entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from carrara import files
from carrara.errors import DataError, InputError, MissingExtra
from carrara.evaluation.inputs import batches
from carrara.evaluation.texts.words import words
from carrara.model import Model, evaluating, load
from carrara.token_likelihood import token_nats

if TYPE_CHECKING:
    from torch import Tensor

POCKETSPHINX = "pocketsphinx"
LANGUAGE_MODEL = "model/en-us/en-us.lm.bin"
_LOG_BASE = math.log(1.0001)
"""pocketsphinx gives whole multiples of this many nats."""
_IMPOSSIBLE = -(2**28)
"""Below it lies what it gives for a word that it does not know."""
BATCH = 32


@dataclass(frozen=True)
class Verdict:
    """What a judge says of texts: the nats of all units that it knows, how many these are, and how many it does not know."""

    nats: float
    known: int
    unknown: int

    @property
    def perplexity(self) -> float:
        """exp of the nats for each unit that is known; NaN without any."""
        return math.exp(self.nats / self.known) if self.known else math.nan

    @property
    def unknown_share(self) -> float:
        """The share of all units that is not known; NaN without any."""
        units = self.known + self.unknown
        return self.unknown / units if units else math.nan


class Judge(Protocol):
    """Reads texts."""

    @property
    def name(self) -> str:
        """What figures are to name it by."""
        ...

    @property
    def unit(self) -> str:
        """What it reads one after another: "word" or "token"."""
        ...

    @property
    def sha256(self) -> str:
        """Of what it is made of (hex)."""
        ...

    def read(self, texts: Sequence[str]) -> Verdict:
        """What it says of texts, each by itself."""
        ...


class Trigrams:
    """Pocketsphinx's model of US English: each word from the two before it, after `.`, `?` and `!` as one that begins a sentence.

    Raises MissingExtra where the package is not installed, DataError where it came without the model.
    """

    name, unit = "pocketsphinx en-us trigrams", "word"

    def __init__(self) -> None:
        spec = find_spec(POCKETSPHINX)
        if spec is None or not spec.submodule_search_locations:
            raise MissingExtra(POCKETSPHINX, "text", "the judge pocketsphinx")
        self.path = Path(spec.submodule_search_locations[0]) / LANGUAGE_MODEL
        if not self.path.is_file():
            raise DataError(f"the package {POCKETSPHINX} has no file {self.path}; install pocketsphinx==5.1.1")

    @cached_property
    def sha256(self) -> str:
        return files.sha256(self.path)

    @cached_property
    def _model(self) -> Any:
        from pocketsphinx import NGramModel

        return NGramModel.readfile(str(self.path))

    def read(self, texts: Sequence[str]) -> Verdict:
        """The nats of all words it knows; one that it does not know is no help for those after it either."""
        found = [self._model.prob([word, *before]) for text in texts for word, before in _contexts(text)]
        known = [score for score in found if score > _IMPOSSIBLE]
        return Verdict(-_LOG_BASE * sum(known), len(known), len(found) - len(known))


def _contexts(text: str) -> Iterator[tuple[str, list[str]]]:
    """(word, the two before it in the sentence, the nearest first) of each word."""
    before: list[str] = []
    for part in text.replace("?", ".").replace("!", ".").split("."):
        for word in words(part):
            yield word, before[:2]
            before = [word, *before[:1]]
        before = ["<s>"]


class Reader:
    """An autoregressive model of texts as a judge: it reads tokens, in windows of its own length, each by itself.

    Raises InputError for a model whose likelihood is no formula, one of pictures, and one that must be told a condition.
    """

    unit = "token"

    def __init__(self, model: Model, name: str) -> None:
        exact = getattr(model.denoiser, "exact", False)
        if model.shape or not exact or any(model.condition.told().values()):
            raise InputError(
                f"{name} is no judge: a judge is an autoregressive model of texts without a condition, such as carrara train "
                "ar-gloss makes"
            )
        self.model, self.name = model, name

    @cached_property
    def sha256(self) -> str:
        from carrara.evaluation.settings import weights_sha256

        return weights_sha256(self.model)

    def read(self, texts: Sequence[str]) -> Verdict:
        """The nats of all tokens, end tokens left out; tokens for what the codec does not know are not counted."""
        codec: Any = self.model.codec
        nats = known = total = 0.0
        for ids in batches(torch.from_numpy(_windows(codec, texts)).long(), BATCH):
            counted = (ids != codec.end) & ~torch.isin(ids, _unknown(codec))
            nats += float(self._nats(ids)[counted].double().sum())
            known, total = known + int(counted.sum()), total + int((ids != codec.end).sum())
        return Verdict(nats, int(known), int(total - known))

    def _nats(self, ids: Tensor) -> Tensor:
        with evaluating(self.model.denoiser):
            return token_nats(self.model.denoiser, ids.to(self.model.denoiser.device)).cpu()


def _windows(codec: Any, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """ids (n, length) of all texts, each cut into windows, the last of them filled up with end tokens."""
    rows = []
    for tokens in codec.tokens_of(texts):
        missing = -len(tokens) % codec.length
        filled = np.concatenate([np.asarray(tokens, np.int64), np.full(missing, codec.end)])
        rows.append(filled.reshape(-1, codec.length))
    return np.concatenate([*rows, np.empty((0, codec.length), np.int64)])


def _unknown(codec: Any) -> Tensor:
    """The tokens that stand for whatever is not known."""
    return torch.tensor([i for i, piece in enumerate(codec.pieces) if piece == "�".encode()], dtype=torch.int64)


def judge_of(name: Judge | str | Path | None) -> Judge:
    """The judge of that name: "pocketsphinx" (or None), or the folder of a run or model; a judge is itself.

    Raises InputError for anything else.
    """
    if name is None:
        return Trigrams()
    if not isinstance(name, str | Path):
        return name
    if str(name) == POCKETSPHINX:
        return Trigrams()
    if not Path(name).exists():
        raise InputError(
            f"there is no judge {str(name)!r}: give {POCKETSPHINX}, or the folder of an autoregressive model of texts"
        )
    return Reader(load(name), str(name))
