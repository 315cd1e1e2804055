"""An autoencoder as a trainable: pictures become ids and pictures again, as like themselves as the vocabulary lets them.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017; its codebook is finite scalar quantisation's, Mentzer et
al., 2024, which has nothing to learn, to keep alive or to share among processes.
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
from carrara.evaluation.media import File, png
from carrara.recipe import Recipe
from carrara.rng import Streams
from carrara.training.computing import candidates
from carrara.training.settings import Training
from carrara.training.trainable import HELDOUT_IMAGES, HELDOUT_SEED
from carrara.training.world import World
from carrara.vq.figures import fidelity
from carrara.vq.model import VqModel, build
from carrara.vq.sheets import above_each_other

AUTOENCODER = "autoencoder"
PREVIEW_PICTURES = 24


class Autoencoding:
    """The network of a VqModel as a player."""

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
    ) -> None:
        """`levels`: of the numbers that are an id together; their product is the vocabulary. `down`: how many times a picture's
        sides are halved. `width`: channels after the first halving; `depth`: residual blocks a resolution. `error`: how a pixel's
        error counts. Raises InputError for what makes no network.
        """
        self.dataset, self.settings, self.seed, self.error = dataset, settings, seed, error
        self.computing = candidates(settings)[0]
        self.model: VqModel = build(recipe, dataset.shape)
        self.players: dict[str, nn.Module] = {AUTOENCODER: self.model.network}
        self.memory: nn.Module = nn.Module()
        self.facts: Mapping[str, Any] = {
            "vocabulary": self.model.vocab,
            "ids_a_picture": math.prod(self.model.grid),
        }

    def loss(self, player: str, start: int, count: int) -> Tensor:
        """The mean error over the pixels of the run's images number start … start + count − 1, (count,)."""
        flips = Streams.of_run(self.seed, start, count).uniform().numpy() < 0.5 if self.dataset.flip else None
        media = take(self.dataset.train, order(len(self.dataset.train), self.seed, start, count), flips)["media"]
        return self._loss(media)

    def rate(self, player: str, start: int) -> float:
        """1: the run's own."""
        return 1.0

    def heldout(self) -> dict[str, float]:
        """The loss on held-out pictures, how like them their pictures are, and how many words are in use; always the same ones."""
        media = self._heldout(HELDOUT_IMAGES)
        network = self.model.network.eval()
        with torch.no_grad():
            losses = torch.cat([self._loss(part) for part in torch.split(media, 128)])
        ids = self.model.encode(media)
        network.train()
        left = fidelity(media, self.model.decode(ids), ids, self.model.vocab)
        return {"heldout_loss": float(losses.mean()), **left}

    def preview(self) -> File:
        """Held-out pictures, and below each what it is once it was ids."""
        media = self._heldout(PREVIEW_PICTURES)
        return png(above_each_other(media.numpy(), self.model.decode(self.model.encode(media)).numpy()))

    def _heldout(self, limit: int) -> Tensor:
        picked = order(len(self.dataset.heldout), HELDOUT_SEED, 0, min(limit, len(self.dataset.heldout)))
        return torch.from_numpy(np.array(self.dataset.heldout.pictures[picked]))

    def _loss(self, media: Tensor) -> Tensor:
        x = Pixels().encode(media).to(self.model.device)
        with self.computing.within(self.model.device):
            y = self.model.network(x)
        missed = off(y.float(), x)
        each = missed.abs() if self.error == "absolute" else missed.square()
        return each.mean((1, 2, 3))


def off(y: Tensor, x: Tensor) -> Tensor:
    """How far y is from x, both from −1 to 1: what lies beyond black where x is black, or beyond white, is no error.

    Numbers are clipped when they are shown. A network that may say less than black need not hit black exactly.
    """
    return torch.where((x.abs() == 1) & (y * x > 1), 0, y - x)
