"""A ClipModel: two encoders, the heads that were trained over them, and what is known of them. One folder, as of every model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carrara import __version__, files, tensors
from carrara.clip import encoders
from carrara.clip.encoders import Pictures, Texts, encoded
from carrara.clip.hubs import EXTRA, Hubs
from carrara.errors import InputError
from carrara.evaluation.clip import checked_rgb
from carrara.evaluation.features import RESIZER
from carrara.kinds import CLIP, FORMAT, check_kind
from carrara.model import DESCRIPTION, WEIGHTS, evaluating, model_folder
from carrara.networks.dual import DualEncoder, Head
from carrara.recipe import Recipe, check

HUBS = "hubs.safetensors"
SHIFT = -10.0
"""Where the sigmoid loss's shift begins: at first nearly every pair is rightly held for none."""


@dataclass
class ClipModel:
    """Two maps into one space of unit vectors: pictures and texts that fit lie near each other.

    Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021; with encoders that
    are not trained, LiT: Zero-Shot Transfer with Locked-image text Tuning, Zhai et al., 2022.
    """

    recipe: Recipe
    heads: DualEncoder
    pictures: Pictures
    words: Texts
    facts: dict[str, Any] = field(default_factory=dict)
    """What the card tells: the data, its licence and fingerprint, versions, figures."""
    hubs: Callable[[], Hubs] | None = None
    """What is usual, by the heads as they are; None where nothing is taken off for it."""
    resizer = RESIZER

    @property
    def name(self) -> str:
        """The recipe's name and the two encoders'."""
        return f"{self.recipe.name} ({self.pictures.name}, {self.words.name})"

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return int(self.heads.pictures.project.out_features) + (0 if self.hubs is None else EXTRA)

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of all that decides its values: the heads, the hubs and both encoders."""
        hubs = {} if self.hubs is None else {"pictures": self.hubs().pictures, "texts": self.hubs().texts}
        trained = (tensors.sha256(self.heads.state_dict()), tensors.sha256(hubs))
        parts = (*trained, self.pictures.sha256, self.words.sha256)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def parameters(self) -> int:
        """The number of parameters that were trained."""
        return sum(p.numel() for p in self.heads.parameters())

    def images(self, images: Tensor, /) -> Tensor:
        """Float32 unit vectors (B, dim) of uint8 images (B, 3, H, W), B ≥ 0, of any size; otherwise InputError."""
        images = checked_rgb(images)
        return self.of_pictures(encoded(self.pictures, images, len(images)))

    def texts(self, texts: Sequence[str], /) -> Tensor:
        """Float32 unit vectors (B, dim) of B ≥ 0 texts; InputError for a single string, which is no sequence of texts."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"texts must be a sequence of strings, such as ['a red apple']; given {texts!r}")
        return self.of_texts(encoded(self.words, texts, len(texts)))

    def of_pictures(self, features: Tensor) -> Tensor:
        """Unit vectors (B, dim) of what the encoder of pictures gave."""
        unit = self.plain(self.heads.pictures, features)
        return unit if self.hubs is None else self.hubs().of_pictures(unit)

    def of_texts(self, features: Tensor) -> Tensor:
        """Unit vectors (B, dim) of what the encoder of texts gave."""
        unit = self.plain(self.heads.texts, features)
        return unit if self.hubs is None else self.hubs().of_texts(unit)

    def plain(self, head: Head, features: Tensor) -> Tensor:
        """What a head makes of features, before anything is taken off for hubs: unit vectors."""
        with torch.no_grad(), evaluating(self.heads):
            found: Tensor = head(head.standard(features))
        return found

    def save(self, folder: str | Path) -> None:
        """Writes the model folder, whole or not at all: the heads, description, card, and a manifest of their hashes."""
        files.write_folder(Path(folder), self._fill)

    def _fill(self, folder: Path) -> None:
        tensors.save(self.heads.state_dict(), folder / WEIGHTS)
        if self.hubs is not None:
            hubs = self.hubs()
            tensors.save({"pictures": hubs.pictures, "texts": hubs.texts}, folder / HUBS)
        made = {"image": self.pictures.sha256, "text": self.words.sha256}
        description = {"format": FORMAT, "kind": CLIP, "carrara": __version__, "recipe": self.recipe.as_dict()}
        files.write_json(folder / DESCRIPTION, {**description, "encoders_sha256": made, "facts": self.facts})
        files.write(folder / "README.md", card(self))


def build(recipe: Recipe) -> ClipModel:
    """The untrained ClipModel of a recipe, its parameters drawn from the recipe's seed."""
    options = recipe.sections["trainable"]
    pictures, words = encoders.pictures(options["image"]), encoders.texts(options["text"])
    shift = SHIFT if options["objective"] == "sigmoid" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        heads = DualEncoder(pictures.dim, words.dim, options["dim"], options["temperature"], shift)
    return ClipModel(recipe, heads, pictures, words)


def load(path: str | Path) -> ClipModel:
    """The ClipModel in a model folder, or in the folder of a finished run. Nothing is ever fetched.

    Raises InputError where there is none, or where an encoder that is installed is not the one it was trained over;
    DamagedFile, by name, for what is damaged.
    """
    folder = model_folder(path)
    files.check_folder(folder)
    about = files.read_json(folder / DESCRIPTION)
    check_kind(about, folder, CLIP)
    model = build(check(about["recipe"]))
    for kind, encoder in (("image", model.pictures), ("text", model.words)):
        trained = about["encoders_sha256"][kind]
        if encoder.sha256 != trained:
            raise InputError(
                f"{folder} was trained over an encoder of {kind} with the weights {trained[:12]}…, and the one that is "
                f"installed, {encoder.name}, has {encoder.sha256[:12]}…; install the package's former version"
            )
    model.heads.load_state_dict(tensors.fitting(folder / WEIGHTS, model.heads.state_dict()))
    model.heads.eval()
    if neighbours := model.recipe.sections["trainable"]["neighbours"]:
        hubs = Hubs(**tensors.load(folder / HUBS), neighbours=neighbours)
        model.hubs = lambda: hubs
    model.facts = about["facts"]
    return model


def card(model: ClipModel) -> str:
    """The model card, in Markdown: what it is, what it was trained on, its figures, how to use it."""
    facts = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in model.facts.items())
    return (
        f"# {model.recipe.name}\n\nA CLIP: pictures and texts in one space of {model.dim} dimensions. {model.parameters:,} "
        f"trained parameters over {model.pictures.name} and {model.words.name}, made with carrara {__version__}.\n\n{facts}\n\n"
        "```python\nfrom carrara.clip.model import load\n\n"
        'clip = load("path/of/this/folder")\nscores = clip.images(pictures) @ clip.texts(["a red apple"]).T\n```\n'
    )
