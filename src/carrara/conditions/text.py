"""A text as a condition: what a picture is to show, in words."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from carrara import files, tensors
from carrara.conditions.encoders import Doubting, TextEncoder, encoder_of
from carrara.conditions.states import States, states_of
from carrara.data.dataset import Dataset
from carrara.denoisers import Cond
from carrara.errors import DamagedFile, InputError
from carrara.guidance import against

log = logging.getLogger(__name__)

EXAMPLES, EXAMPLE_STATES = "text.json", "examples.safetensors"
_EXAMPLES = 24
"""How many held-out captions are kept, to be shown where nobody asks for one."""
_QUOTED = 80
"""Characters of what is not read that a warning quotes."""
_STRANGE = 0.5
"""The share of a text's tokens that an encoder has no word for, from which on it is told of."""

Prompt = str | Sequence[str]


class TextCondition:
    """{"text": (B, T, W) float32 or (B, T) int64, "text_mask": (B, T) bool}: the tokens of a text, and which of them are there.

    Those of a frozen encoder are states, computed once for a caption and kept in the cache; those of `bytes` are ids, which a
    network learns to read. The null is the empty text, of which no token is there.
    """

    def __init__(self, encoder: str = "minilm", length: int = 32, dropout: float = 0.1) -> None:
        """`encoder`: minilm, bytes, "module:name" of one's own, or a folder that transformers saved, of a CLIP, a T5 or another
        encoder. `length`: T, the tokens of a text that are read. `dropout`: the share of training samples that are shown the
        null, which classifier-free guidance needs. Raises InputError for options out of range, and for no such encoder.
        """
        if not 0 <= dropout < 1:
            raise InputError(f"condition.dropout is {dropout}; it must be at least 0 and below 1")
        self.encoder, self.length, self.dropout = encoder_of(encoder), length, dropout
        self.examples: tuple[str, ...] = ()
        self.known = States({})
        self._about: dict[str, Any] | None = None
        self._said: set[str] = set()
        self._foreign: set[str] = set()
        if length < 1:
            raise InputError(f"condition.length is {length}; it must be at least 1 token")

    @property
    def about(self) -> dict[str, Any]:
        """What the encoder is, as it is saved: its name, its weights' SHA-256, its states' width or its number of ids."""
        if self._about is None:
            encoder = self.encoder
            self._about = {name: getattr(encoder, name) for name in ("name", "sha256", "width", "vocab")}
            if self.length > encoder.longest:
                raise InputError(
                    f"condition.length is {self.length}, and the encoder {encoder.name} reads {encoder.longest} tokens at most"
                )
        return self._about

    def told(self) -> dict[str, int]:
        """What a network is told of it: how wide its states are or how many ids there are, and how many tokens."""
        names = {"text_width": self.about["width"], "text_vocab": self.about["vocab"], "text_length": self.length}
        return {name: value for name, value in names.items() if value}

    def fit(self, dataset: Dataset) -> Self:
        """The condition with its examples, and the states of all captions, where they are kept.

        Raises InputError for a dataset without captions, and for one whose captions are all empty.
        """
        captions = _captions(dataset)
        made = copy.copy(self)
        made.examples = tuple(_spread(dataset.heldout.captions or ()))
        if self.about["width"]:
            made.known = states_of(self._checked(), captions, self.length)
        made._tell_of_cut(captions)
        made._tell_of_strange(captions, "captions")
        return made

    def encode(self, batch: Mapping[str, Any]) -> Cond:
        """The captions of a batch of data; what is longer than T tokens is cut."""
        if "caption" not in batch:
            raise InputError("this model is told captions, and the data has none; give data with captions")
        return self._cond(batch["caption"])

    def ask(
        self, count: int, prompt: Prompt | None = None, negative_prompt: Prompt | None = None, **wishes: Any
    ) -> Cond:
        """One prompt for all samples, or one each; None: the examples in turn, and the null where there are none.

        An empty prompt is the null. Of a longer one the first T tokens are read, and the log says what is not.
        negative_prompt, one or one each, takes the null's place in guidance, see carrara.guidance.against. Raises InputError for a
        wrong number of prompts, for what is no text, for an encoder that is not there, or any other wish.
        """
        if any(value is not None for value in wishes.values()):
            raise InputError(f"this model is asked for by prompt; it does not know {', '.join(wishes)}")
        texts = self.prompts(count, prompt) or [""] * count
        weak = None if negative_prompt is None else _each(count, negative_prompt, "negative prompts")
        self._warn([*(() if prompt is None else texts), *(weak or ())])
        cond = self._cond(texts)
        return cond if weak is None else against(cond, self._cond(weak))

    def prompts(self, count: int, prompt: Prompt | None = None) -> list[str]:
        """The prompt of each of `count` samples: what was asked for, or the examples in turn. Raises InputError as `ask`."""
        if prompt is None:
            return [self.examples[index % len(self.examples)] for index in range(count)] if self.examples else []
        return _each(count, prompt, "prompts")

    def null(self, count: int) -> Cond:
        """The empty text."""
        return self._cond([""] * count)

    def _warn(self, texts: Sequence[str]) -> None:
        """Says of the first prompt that is cut what is not read of it, and how many others are; of each prompt once.

        The same of prompts in a language that the encoder does not read.
        """
        self._tell_of_strange([text for text in dict.fromkeys(texts) if text not in self.known], "prompts")
        new = [text for text in self._full(texts) if text not in self._said]
        cut = {text: dropped for text in new if (dropped := self._dropped(text))}
        self._said.update([*cut][:1])
        for text, dropped in [*cut.items()][:1]:
            others = f"; of {len(cut) - 1} other prompts the end is not read either" if len(cut) > 1 else ""
            log.warning(
                "of the prompt %r the last %s characters are not read, for this model reads %d tokens: %r%s",
                _short(text), f"{len(dropped):,}", self.length, _short(dropped), others,
            )  # fmt: skip

    def _full(self, texts: Sequence[str]) -> list[str]:
        """The different texts but those that are known to leave a place free, for which the encoder need not be asked."""
        return [text for text in dict.fromkeys(texts) if len(self.known.get(text, ())) in (0, self.length)]

    def _dropped(self, text: str) -> str:
        """What of a text is not read."""
        # A token of a text is a character or more but in bytes, so that what is short needs no look.
        if len(text.encode("utf-8", "replace")) <= self.length - 2:
            return ""
        return text[self._checked().read(text, self.length) :].strip()

    def _tell_of_cut(self, captions: Sequence[str]) -> None:
        if cut := sum(bool(self._dropped(text)) for text in self._full(captions)):
            log.warning(
                "%d of %d captions are longer than %d tokens, and are cut; condition.length is what is read",
                cut, len(captions), self.length,
            )  # fmt: skip

    def _tell_of_strange(self, texts: Sequence[str], what: str) -> None:
        """Says how many of some different texts the encoder has mostly no words for, and quotes the first; of each text once."""
        encoder = self.encoder
        # Of what is all ASCII an encoder knows most, so that nobody who writes English waits for it.
        foreign = [text for text in texts if not text.isascii() and text not in self._foreign]
        self._foreign.update(foreign)
        strange = [t for t in foreign if encoder.unknown(t) >= _STRANGE] if isinstance(encoder, Doubting) else []
        if strange:
            log.warning(
                "in %d of %d %s half the tokens or more are unknown to the text encoder %s, such as in %r: it reads another "
                "language; condition.encoder=bytes reads any, and so does a folder with an encoder of many languages",
                len(strange), len(texts), what, encoder.name, _short(strange[0]),
            )  # fmt: skip

    def _cond(self, texts: Sequence[str]) -> Cond:
        """The condition of some texts, each read once."""
        found = self._tokens([text for text in dict.fromkeys(texts) if text.strip()])
        rows = [found.get(text) for text in texts]
        mask = torch.zeros(len(texts), self.length, dtype=torch.bool)
        width = self.about["width"]
        text = torch.zeros(len(texts), self.length, width) if width else torch.zeros(mask.shape, dtype=torch.int64)
        for row, tokens in enumerate(rows):
            if tokens is not None:
                text[row, : len(tokens)], mask[row, : len(tokens)] = tokens, True
        return {"text": text, "text_mask": mask}

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The tokens of each text: those that are known, and the encoder's."""
        new = [text for text in texts if text not in self.known]
        made = dict(zip(new, self._checked()(new, self.length), strict=True)) if new else {}
        return made | {text: self.known[text] for text in texts if text in self.known}

    def _checked(self) -> TextEncoder:
        """The encoder. Raises InputError where its weights are not those that the model was trained with."""
        found, meant = self.encoder.sha256, self.about["sha256"]
        if found != meant:
            raise InputError(
                f"the text encoder {self.encoder.name} has other weights ({found[:12]}…) than this model was trained with "
                f"({meant[:12]}…); put those back: without them only the model's own examples can be asked for"
            )
        return self.encoder

    def save(self, folder: Path) -> None:
        """Writes which encoder it is and the examples, with their states, into an empty folder."""
        known = {text: tokens for text, tokens in self._tokens(self.examples).items() if self.about["width"]}
        tensors.save(States(known).packed(), folder / EXAMPLE_STATES)
        about = {"encoder": self.about, "length": self.length, "examples": list(self.examples), "known": list(known)}
        files.write_json(folder / EXAMPLES, about)

    def restore(self, folder: Path) -> Self:
        """This condition as it was saved there; its encoder is looked for when a prompt is asked for. Raises DamagedFile."""
        path = folder / EXAMPLES
        found = files.read_json(path) if path.is_file() else None
        if not isinstance(found, dict) or not {"encoder", "examples", "known"} <= found.keys():
            raise DamagedFile(f"{path} holds no examples of prompts: it is missing or damaged")
        made = copy.copy(self)
        made._about, made.examples = found["encoder"], tuple(found["examples"])
        made.known = States.of(tensors.load(folder / EXAMPLE_STATES), found["known"])
        return made


def _each(count: int, given: Prompt, what: str) -> list[str]:
    """A text for each of `count` samples. Raises InputError for another number of them, and for what is no text."""
    texts = [given] * count if isinstance(given, str) else list(given)
    if len(texts) != count:
        raise InputError(f"{len(texts)} {what} were given for {count} samples; give one, or one for each")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a prompt is a text, and {text!r} is a {type(text).__name__}")
    return texts


def _captions(dataset: Dataset) -> list[str]:
    """All different captions, those of training first. Raises InputError where there are none; the log counts empty ones."""
    train, heldout = dataset.train.captions, dataset.heldout.captions
    if train is None or heldout is None:
        raise InputError(
            f"condition kind 'text' needs captions, and the dataset {dataset.name} has none: choose one that has, such as emoji or "
            "a folder with a metadata file, or another condition"
        )
    empty = sum(not text.strip() for text in train)
    if empty == len(train):
        raise InputError(
            f"all captions of the dataset {dataset.name} are empty; write some, or choose another condition"
        )
    if empty:
        log.warning(
            "%d of %d captions are empty, and are trained on as the null%s", empty, len(train), _named(dataset.notes)
        )
    return [text for text in dict.fromkeys((*train, *heldout)) if text.strip()]


def _named(notes: Iterable[str]) -> str:
    """What the dataset notes of pictures without a caption, in brackets: which they are."""
    return "".join(f" ({note})" for note in notes if "without a caption" in note)


def _spread(captions: Iterable[str]) -> Iterator[str]:
    """Some different captions, spread over all of them."""
    found = [text for text in dict.fromkeys(captions) if text.strip()]
    chosen = np.unique(np.linspace(0, len(found) - 1, min(_EXAMPLES, len(found))).round().astype(int))
    return (found[index] for index in chosen)


def _short(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
