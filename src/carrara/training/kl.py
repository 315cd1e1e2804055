"""An autoencoder whose middle is a normal distribution at each place, as a trainable: pictures become latents and pictures again.

Source: Auto-Encoding Variational Bayes, Kingma & Welling, 2014; with a tiny weight of the divergence, a perceptual loss and a
critic: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al., 2022, section 3.1 and appendix G.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from carrara.data import Dataset
from carrara.data.batches import order
from carrara.kl.bottleneck import Scaling, divergence
from carrara.kl.model import KlModel, build
from carrara.recipe import Recipe
from carrara.rng import Streams, derive
from carrara.training.autoencoding import Error, Missing, Reconstruction, check
from carrara.training.settings import Training
from carrara.training.world import World

NOISE_SEED = 0x2B6
"""Beside the run's: what the latents of its images are drawn with."""
SCALED_SEED, SCALED_PICTURES, AT_ONCE = 0x5CA1E, 10_000, 256
"""Of the training pictures by which latents are scaled: what picks them, how many at most, how many are read at a time."""


class Variational(Reconstruction):
    """The network of a KlModel as a player."""

    model: KlModel

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        settings: Training,
        seed: int,
        world: World | None = None,
        *,
        channels: int = 4,
        down: int = 2,
        width: int = 64,
        depth: int = 2,
        kl: float = 1e-6,
        error: Error = "absolute",
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        adversarial_after_images: int = 0,
    ) -> None:
        """`channels`: numbers of a latent place. `down`: how many times a picture's sides are halved. `width`: channels after the
        first halving; `depth`: residual blocks a resolution. `kl`: how much the latents' divergence from N(0, 1) counts, in nats a
        number of the picture, beside the mean error of one. `error`: how a pixel's error counts. `perceptual`: how much the
        distance to a network of pictures counts beside it, and `adversarial`: how long the critic's gradient is, the other
        losses' being 1; 0 leaves either out. The critic begins after `adversarial_after_images`.

        Raises InputError for what makes no network and sides that do not divide, RecipeError for weights that are none,
        MissingExtra where the network that sees is not installed.
        """
        missing = Missing(error, perceptual, adversarial, adversarial_after_images)
        check(kl=kl)
        super().__init__(build(recipe, dataset.shape), dataset, settings, seed, missing)
        self.kl = kl
        self.model.measure = self.measured
        self.facts = {"latents": "×".join(map(str, self.model.latents)), "pixels_a_place": self.model.factor}

    def through(self, x: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """What pictures are once they were latents, drawn, and what that costs."""
        h, w = self.model.grid(*x.shape[-2:])
        streams = Streams.of_run(derive(self.seed, NOISE_SEED), start, len(x))
        noise = streams.normal((self.model.network.latents, h, w), device=x.device)
        y, mean, logvar = self.model.network(x, noise)
        return y.float(), self.cost(mean, logvar, x)

    def quietly(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What they are once they were their latents' means; the nats of a picture, and how wide a latent is."""
        mean, logvar = self.model.network.middle(x)
        middle = {
            "cost": self.cost(mean, logvar, x),
            "heldout_kl": divergence(mean, logvar),
            "deviation": (logvar / 2).exp().mean((1, 2, 3)),
        }
        return self.model.network.back(mean).float(), middle

    def cost(self, mean: Tensor, logvar: Tensor, x: Tensor) -> Tensor:
        """What the latents of pictures x cost, (B,)."""
        return self.kl * divergence(mean, logvar) / x[0].numel()

    def measured(self) -> Scaling:
        """What brings the means of training pictures to mean 0 and variance 1, each channel by itself."""
        train = self.dataset.train
        rows = order(len(train), SCALED_SEED, 0, min(SCALED_PICTURES, len(train)))
        parts = np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))
        return Scaling.of(self.model.means(torch.from_numpy(np.array(train.pictures[part]))) for part in parts)
