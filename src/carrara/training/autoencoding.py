"""Autoencoders as trainables: pictures become something small and pictures again, as like themselves as that lets them.

What is missed is told by an error, and where a recipe weighs them by two others: `training/perceptual.py`,
`training/adversarial.py`, as in VQGAN, Esser et al., 2021.
What stands in the middle, and what that costs, each kind of autoencoder says for itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from carrara.autoencoders import AutoencoderModel
from carrara.codecs.pixels import Pixels
from carrara.data import Dataset
from carrara.data.batches import batch as take
from carrara.data.batches import order
from carrara.errors import RecipeError
from carrara.evaluation.media import File, png
from carrara.evaluation.sheets import above_each_other
from carrara.networks.patches import Patches
from carrara.rng import Streams, derive
from carrara.training.adversarial import Adversary, shown
from carrara.training.computing import candidates
from carrara.training.learner import seeded
from carrara.training.perceptual import Perceptual
from carrara.training.settings import Training
from carrara.training.trainable import HELDOUT_IMAGES, HELDOUT_SEED

AUTOENCODER, CRITIC = "autoencoder", "critic"
PREVIEW_PICTURES = 24
CRITIC_SEED = 0xC417
"""Beside the run's: what the critic's parameters are drawn from."""

Error = Literal["absolute", "squared"]


@dataclass(frozen=True)
class Missing:
    """How what is missed of a picture counts. Raises RecipeError for weights below 0, or that are none."""

    error: Error = "absolute"
    """Of a pixel's number."""
    perceptual: float = 0.0
    """How much the distance to a network of pictures counts beside it."""
    adversarial: float = 0.0
    """How long the critic's gradient is, the other losses' being 1; 0 leaves the critic out, as above the distance."""
    adversarial_after_images: int = 0
    """When the critic begins."""

    def __post_init__(self) -> None:
        check(
            perceptual=self.perceptual,
            adversarial=self.adversarial,
            adversarial_after_images=self.adversarial_after_images,
        )


class Reconstruction(ABC):
    """The network of an AutoencoderModel as a player, and a critic of what it leaves of pictures as another, where asked for."""

    sections: ClassVar[frozenset[str]] = frozenset({"data", "trainable", "training"})
    """Of a recipe, those that it is made from."""

    def __init__(
        self, model: AutoencoderModel[Any], dataset: Dataset, settings: Training, seed: int, missing: Missing
    ) -> None:
        """Raises MissingExtra where the network that sees is not installed."""
        self.model, self.dataset, self.settings, self.seed, self.missing = model, dataset, settings, seed, missing
        self.computing = candidates(settings)[0]
        self.players: dict[str, nn.Module] = {AUTOENCODER: model.network}
        self.perceptual = Perceptual() if missing.perceptual else None
        self.adversary: Adversary | None = None
        if missing.adversarial:
            with seeded(derive(seed, CRITIC_SEED)):
                self.players[CRITIC] = Patches(dataset.shape[0]).to(model.device)
            self.adversary = Adversary(self.players[CRITIC], missing.adversarial, missing.adversarial_after_images)
        self._made: dict[int, Tensor] = {}
        self.memory: nn.Module = nn.Module()
        self.facts: Mapping[str, Any] = {}

    @abstractmethod
    def through(self, x: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """(y, cost) of the run's images from number `start` on, x (B, C, H, W) from −1 to 1: what they are once they have gone
        through the network, float32, and what the middle costs beside what is missed, (B,), None for nothing.
        """

    @abstractmethod
    def quietly(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(y, parts) of held-out pictures x: the same without chance, and what the middle costs by name, (B,); `cost` counts."""

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """Of the run's images number start … start + count − 1, (count,): what the autoencoder misses, or how badly the critic
        tells what it has just made from real ones.
        """
        x = self._images(start, count)
        with self.computing.within(self.model.device):
            return self._critic_loss(x, start) if player == CRITIC else self._autoencoder_loss(x, start)

    def rate(self, player: str, start: int) -> float:
        """1: the run's own; of a critic that has not begun 0."""
        return self.adversary.rate(start) if self.adversary and player == CRITIC else 1.0

    def heldout(self) -> dict[str, float]:
        """On held-out pictures, always the same: what is missed and its parts, what the critic holds of real pictures and of
        made ones, how like them their pictures are, and what there is to say of the middle.
        """
        media = self._heldout(HELDOUT_IMAGES)
        network = self.model.network.eval()
        with torch.no_grad():
            parts = [self._parts(part) for part in torch.split(media, 128)]
        figures = self.model.figures(media)
        network.train()
        return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]} | figures

    def preview(self) -> File:
        """Held-out pictures, and below each what is left of it."""
        media = self._heldout(PREVIEW_PICTURES)
        return png(above_each_other(media.numpy(), self.model.again(media).numpy()))

    def _heldout(self, limit: int) -> Tensor:
        picked = order(len(self.dataset.heldout), HELDOUT_SEED, 0, min(limit, len(self.dataset.heldout)))
        return torch.from_numpy(np.array(self.dataset.heldout.pictures[picked]))

    def _images(self, start: int, count: int) -> Tensor:
        """The run's images of these numbers, (count, C, H, W) from −1 to 1."""
        flips = Streams.of_run(self.seed, start, count).uniform().numpy() < 0.5 if self.dataset.flip else None
        media = take(self.dataset.train, order(len(self.dataset.train), self.seed, start, count), flips)["media"]
        return Pixels().encode(media).to(self.model.device)

    def _autoencoder_loss(self, x: Tensor, start: int) -> Tensor:
        y, cost = self.through(x, start)
        missed = self._pushed(y, x, start)
        return missed if cost is None else missed + cost

    def _pushed(self, y: Tensor, x: Tensor, start: int) -> Tensor:
        """What y lacks of x, and where the critic is listened to, a way to where it scores higher."""
        if self.adversary is None:
            return self._missed(y, x)
        self._made[start] = y.detach()
        if not self.adversary.listened(start):
            return self._missed(y, x)
        return self.adversary.pushed(lambda made: self._missed(made, x), y)

    def _critic_loss(self, x: Tensor, start: int) -> Tensor:
        """Of what the autoencoder made of these images in its own turn; where it has had none, of what it makes of them now."""
        assert self.adversary is not None
        made = self._made.pop(start, None)
        if made is None or len(made) != len(x):
            with torch.no_grad():
                made = self.through(x, start)[0]
        return self.adversary.missed(made, x, start)

    def _missed(self, y: Tensor, x: Tensor) -> Tensor:
        """What y lacks of x, (B,): its error, and how far it is to the network that sees, where that counts."""
        error = self._error(y, x)
        if self.perceptual is None:
            return error
        return error + self.missing.perceptual * self.perceptual(shown(y), x)

    def _error(self, y: Tensor, x: Tensor) -> Tensor:
        """The mean error over each picture's numbers, (B,)."""
        missed = off(y, x)
        each = missed.abs() if self.missing.error == "absolute" else missed.square()
        return each.mean((1, 2, 3))

    def _parts(self, media: Tensor) -> dict[str, Tensor]:
        """The loss of pictures but for the critic's share, and each part that is in use, (B,)."""
        x = Pixels().encode(media).to(self.model.device)
        with self.computing.within(self.model.device):
            y, middle = self.quietly(x)
            error, cost = self._error(y, x), middle.pop("cost", None)
            found = {"heldout_loss": error}
            if self.perceptual is not None:
                found |= {"heldout_error": error, "heldout_perceptual": self.perceptual(shown(y), x)}
                found["heldout_loss"] = error + self.missing.perceptual * found["heldout_perceptual"]
            if cost is not None:
                found |= {"heldout_error": error, "heldout_loss": found["heldout_loss"] + cost}
            if self.adversary is not None:
                found |= {"score_real": self.adversary.score(x), "score_made": self.adversary.score(y)}
        return found | middle


def off(y: Tensor, x: Tensor) -> Tensor:
    """How far y is from x, both from −1 to 1: what lies beyond black where x is black, or beyond white, is no error.

    Numbers are clipped when they are shown. A network that may say less than black need not hit black exactly.
    """
    return torch.where((x.abs() == 1) & (y * x > 1), 0, y - x)


def check(**given: float) -> None:
    """Raises RecipeError for weights, and a number of images, below 0 or none at all."""
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise RecipeError(f"trainable.{name} is {value!r}; it must be 0 or more, and finite")
