"""An autoencoder as a trainable: pictures become ids and pictures again, as like themselves as the vocabulary lets them.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017; its codebook is finite scalar quantisation's, Mentzer et
al., 2024, which has nothing to learn, to keep alive or to share among processes. What is missed is told by an error, and where a
recipe weighs them by two others: `training/perceptual.py`, `training/adversarial.py`, as in VQGAN, Esser et al., 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from carrara.codecs.pixels import Pixels
from carrara.data import Dataset
from carrara.data.batches import batch as take
from carrara.data.batches import order
from carrara.errors import RecipeError
from carrara.evaluation.media import File, png
from carrara.networks.patches import Patches
from carrara.recipe import Recipe
from carrara.rng import Streams, derive
from carrara.training.adversarial import Adversary, shown
from carrara.training.computing import candidates
from carrara.training.learner import seeded
from carrara.training.perceptual import Perceptual
from carrara.training.settings import Training
from carrara.training.trainable import HELDOUT_IMAGES, HELDOUT_SEED
from carrara.training.world import World
from carrara.vq.figures import fidelity
from carrara.vq.model import VqModel, build
from carrara.vq.sheets import above_each_other

AUTOENCODER, CRITIC = "autoencoder", "critic"
PREVIEW_PICTURES = 24
CRITIC_SEED = 0xC417
"""Beside the run's: what the critic's parameters are drawn from."""


class Autoencoding:
    """The network of a VqModel as a player, and a critic of what it leaves of pictures as another, where one is asked for."""

    sections: ClassVar[frozenset[str]] = frozenset({"data", "trainable", "training"})
    """Of a recipe, those that it is made from."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        settings: Training,
        seed: int,
        world: World | None = None,
        *,
        levels: tuple[int, ...] = (8, 8, 8),
        down: int = 2,
        width: int = 64,
        depth: int = 2,
        error: Literal["absolute", "squared"] = "absolute",
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        adversarial_after_images: int = 0,
    ) -> None:
        """`levels`: of the numbers that are an id together; their product is the vocabulary. `down`: how many times a picture's
        sides are halved. `width`: channels after the first halving; `depth`: residual blocks a resolution. `error`: how a pixel's
        error counts. `perceptual`: how much the distance to a network of pictures counts beside it, and `adversarial`: how long the
        critic's gradient is, the other losses' being 1; 0 leaves either out. The critic begins after `adversarial_after_images`.

        Raises InputError for what makes no network, RecipeError for weights that are none, MissingExtra where the network that
        sees is not installed.
        """
        _check(perceptual=perceptual, adversarial=adversarial, adversarial_after_images=adversarial_after_images)
        self.dataset, self.settings, self.seed, self.error = dataset, settings, seed, error
        self.computing = candidates(settings)[0]
        self.model: VqModel = build(recipe, dataset.shape)
        self.players: dict[str, nn.Module] = {AUTOENCODER: self.model.network}
        self.perceptual_weight, self.perceptual = perceptual, Perceptual() if perceptual else None
        self.adversary: Adversary | None = None
        if adversarial:
            with seeded(derive(seed, CRITIC_SEED)):
                self.players[CRITIC] = Patches(dataset.shape[0]).to(self.model.device)
            self.adversary = Adversary(self.players[CRITIC], adversarial, adversarial_after_images)
        self._made: dict[int, Tensor] = {}
        self.memory: nn.Module = nn.Module()
        self.facts: Mapping[str, Any] = {
            "vocabulary": self.model.vocab,
            "ids_a_picture": math.prod(self.model.grid),
        }

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
        made ones, how like them their pictures are, and how many words are in use.
        """
        media = self._heldout(HELDOUT_IMAGES)
        network = self.model.network.eval()
        with torch.no_grad():
            parts = [self._parts(part) for part in torch.split(media, 128)]
        ids = self.model.encode(media)
        network.train()
        means = {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}
        return means | fidelity(media, self.model.decode(ids), ids, self.model.vocab)

    def preview(self) -> File:
        """Held-out pictures, and below each what it is once it was ids."""
        media = self._heldout(PREVIEW_PICTURES)
        return png(above_each_other(media.numpy(), self.model.decode(self.model.encode(media)).numpy()))

    def _heldout(self, limit: int) -> Tensor:
        picked = order(len(self.dataset.heldout), HELDOUT_SEED, 0, min(limit, len(self.dataset.heldout)))
        return torch.from_numpy(np.array(self.dataset.heldout.pictures[picked]))

    def _images(self, start: int, count: int) -> Tensor:
        """The run's images of these numbers, (count, C, H, W) from −1 to 1."""
        flips = Streams.of_run(self.seed, start, count).uniform().numpy() < 0.5 if self.dataset.flip else None
        media = take(self.dataset.train, order(len(self.dataset.train), self.seed, start, count), flips)["media"]
        return Pixels().encode(media).to(self.model.device)

    def _autoencoder_loss(self, x: Tensor, start: int) -> Tensor:
        y = self.model.network(x).float()
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
                made = self.model.network(x).float()
        return self.adversary.missed(made, x, start)

    def _missed(self, y: Tensor, x: Tensor) -> Tensor:
        """What y lacks of x, (B,): its error, and how far it is to the network that sees, where that counts."""
        error = self._error(y, x)
        if self.perceptual is None:
            return error
        return error + self.perceptual_weight * self.perceptual(shown(y), x)

    def _error(self, y: Tensor, x: Tensor) -> Tensor:
        """The mean error over each picture's numbers, (B,)."""
        missed = off(y, x)
        each = missed.abs() if self.error == "absolute" else missed.square()
        return each.mean((1, 2, 3))

    def _parts(self, media: Tensor) -> dict[str, Tensor]:
        """The loss of pictures but for the critic's share, and each part that is in use, (B,)."""
        x = Pixels().encode(media).to(self.model.device)
        with self.computing.within(self.model.device):
            y = self.model.network(x).float()
            found = {"heldout_loss": self._error(y, x)}
            if self.perceptual is not None:
                found |= {"heldout_error": found["heldout_loss"], "heldout_perceptual": self.perceptual(shown(y), x)}
                found["heldout_loss"] = found["heldout_error"] + self.perceptual_weight * found["heldout_perceptual"]
            if self.adversary is not None:
                found |= {"score_real": self.adversary.score(x), "score_made": self.adversary.score(y)}
        return found


def off(y: Tensor, x: Tensor) -> Tensor:
    """How far y is from x, both from −1 to 1: what lies beyond black where x is black, or beyond white, is no error.

    Numbers are clipped when they are shown. A network that may say less than black need not hit black exactly.
    """
    return torch.where((x.abs() == 1) & (y * x > 1), 0, y - x)


def _check(**given: float) -> None:
    """Raises RecipeError for weights, and a number of images, below 0 or none at all."""
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise RecipeError(f"trainable.{name} is {value!r}; it must be 0 or more, and finite")
