"""An autoencoder whose middle is words, as a trainable: pictures become ids and pictures again.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017; its codebook is finite scalar quantisation's, Mentzer et
al., 2024, which has nothing to learn, to keep alive or to share among processes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from carrara.data import Dataset
from carrara.errors import RecipeError
from carrara.recipe import Recipe
from carrara.rng import Streams, derive
from carrara.training.autoencoding import Error, Missing, Reconstruction
from carrara.training.settings import Training
from carrara.training.world import World
from carrara.vq.model import VqModel, build

MISTAKEN_SEED = 0x3157
"""Beside the run's: which words are replaced, and by which."""


class Autoencoding(Reconstruction):
    """The network of a VqModel as a player."""

    model: VqModel

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
        error: Error = "absolute",
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        adversarial_after_images: int = 0,
        mistaken: float = 0.0,
    ) -> None:
        """`levels`: of the numbers that are an id together; their product is the vocabulary. `down`: how many times a picture's
        sides are halved. `width`: channels after the first halving; `depth`: residual blocks a resolution. `error`: how a pixel's
        error counts. `perceptual`: how much the distance to a network of pictures counts beside it, and `adversarial`: how long the
        critic's gradient is, the other losses' being 1; 0 leaves either out. The critic begins after `adversarial_after_images`.
        `mistaken`: the share of words that are replaced by any before they are read back, in training alone, so that a picture
        bears a word that a model of words gets wrong.

        Raises InputError for what makes no network, RecipeError for weights that are none, MissingExtra where the network that
        sees is not installed.
        """
        missing = Missing(error, perceptual, adversarial, adversarial_after_images)
        super().__init__(build(recipe, dataset.shape), dataset, settings, seed, missing)
        if not 0 <= mistaken < 1:
            raise RecipeError(f"trainable.mistaken is {mistaken!r}; it is a share of words, at least 0 and below 1")
        self.mistaken = mistaken
        self.facts = {"vocabulary": self.model.vocab, "ids_a_picture": math.prod(self.model.grid)}

    def through(self, x: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """What pictures are once they were ids; words cost nothing."""
        return self.model.network(x, self.wrong(x, start)).float(), None

    def wrong(self, x: Tensor, start: int) -> Tensor | None:
        """The words (B, h, w) that are read in the place of the images' own, −1 where none is; None where none ever is.

        Source: Robust Latent Matters, Qiu et al., 2025, where they are near the own ones.
        """
        if not self.mistaken:
            return None
        streams = Streams.of_run(derive(self.seed, MISTAKEN_SEED), start, len(x))
        which, word = streams.uniform((2, *self.model.grid), device=x.device).unbind(1)
        return torch.where(which < self.mistaken, (word * self.model.vocab).long(), -1)

    def quietly(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same."""
        return self.model.network(x).float(), {}
