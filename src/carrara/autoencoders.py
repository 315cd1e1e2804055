"""What models of autoencoders have in common, whatever stands between encoder and decoder. One folder, as of every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from carrara import __version__, files, tensors
from carrara.errors import InputError
from carrara.kinds import FORMAT, check_kind
from carrara.model import DESCRIPTION, WEIGHTS, model_folder
from carrara.recipe import Recipe, check

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class AutoencoderModel(ABC, Generic[Network]):
    """A network that leaves little of pictures and makes them again, and what is known of it."""

    recipe: Recipe
    network: Network
    shape: tuple[int, int, int]
    """Of one picture that it was trained on: (C, H, W)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the card tells: the data, its licence and fingerprint, versions, figures."""

    kind: ClassVar[str] = ""
    """In carrara.kinds.KINDS."""

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of all that decides what is encoded: it is comparable only where that is the same."""
        return tensors.sha256(self.weights())

    def weights(self) -> dict[str, Tensor]:
        """All that was trained or measured, by name."""
        return self.network.state_dict()

    def restore(self, path: Path) -> None:
        """Takes what `weights` had when they were saved there. Raises InputError where they are another model's."""
        self.network.load_state_dict(tensors.fitting(path, self.weights()))

    @abstractmethod
    def again(self, media: Tensor) -> Tensor:
        """What pictures uint8 (B, C, H, W) are once they have gone through it."""

    @abstractmethod
    def figures(self, media: Tensor) -> dict[str, float]:
        """How much it leaves of pictures, uint8 (B, C, H, W)."""

    @abstractmethod
    def card(self) -> str:
        """The model card, in Markdown."""

    def save(self, folder: str | Path) -> None:
        """Writes the model folder, whole or not at all: weights, description, card, and a manifest of their hashes."""
        files.write_folder(Path(folder), self.fill)

    def fill(self, folder: Path) -> None:
        """Writes the files of a model folder but its manifest."""
        tensors.save(self.weights(), folder / WEIGHTS)
        description = {"format": FORMAT, "kind": self.kind, "carrara": __version__, "recipe": self.recipe.as_dict()}
        files.write_json(folder / DESCRIPTION, {**description, "shape": list(self.shape), "facts": self.facts})
        files.write(folder / "README.md", self.card())


Found = TypeVar("Found", bound=AutoencoderModel[Any])


def whole(path: str | Path) -> Path:
    """The model folder in a folder of a model or of a finished run, compared with its hashes. Nothing is ever fetched.

    Raises InputError where there is none, DamagedFile, by name, for what is damaged.
    """
    folder = model_folder(path)
    files.check_folder(folder)
    return folder


def restored(folder: Path, kind: str, build: Callable[[Recipe, Sequence[int]], Found]) -> Found:
    """The model of this kind whose files are in this folder, which somebody else has compared with their hashes.

    Raises InputError for a model of another kind.
    """
    about = files.read_json(folder / DESCRIPTION)
    check_kind(about, folder, kind)
    model = build(check(about["recipe"]), about["shape"])
    model.restore(folder / WEIGHTS)
    model.network.eval()
    model.facts = about["facts"]
    return model


def check_pictures(media: Tensor, name: str, channels: int) -> None:
    """Raises InputError for pictures (B, C, H, W) of other channels than an autoencoder's."""
    if media.ndim != 4 or media.shape[1] != channels:
        colours = {1: "1 channel (grey)", 3: "3 channels (RGB)"}.get(channels, f"{channels} channels")
        raise InputError(
            f"pictures of shape {tuple(media.shape)} were given to the autoencoder {name}; it knows pictures "
            f"(B, {channels}, H, W), of {colours}. Train one on these, or give pictures of its colours"
        )


def told(facts: Mapping[str, Any]) -> str:
    """Facts as lines of a card."""
    return "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in facts.items())
