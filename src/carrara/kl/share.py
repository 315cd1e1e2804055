"""How much of a latent model's distance from real pictures is its autoencoder's, and how fast that is.

No model of latents can be better than the pictures that come back from them: the Fréchet distance of reconstructions is what a
perfect one would have. Above it is the generation model's share, below it, down to the floor, the autoencoder's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from carrara.codecs.trained import Trained
from carrara.data import Dataset
from carrara.errors import InputError
from carrara.evaluation.features import Features
from carrara.evaluation.measure import Yardstick, heldout, yardstick
from carrara.kl.model import KlModel
from carrara.model import Model


@dataclass(frozen=True)
class Share:
    """Fréchet distances of as many samples, reconstructions and held-out pictures, by one yardstick."""

    samples: float
    reconstructions: float
    floor: float
    ceiling: float
    n: int
    reference: str
    features: str

    @property
    def of_autoencoder(self) -> float:
        """The share of the samples' distance above the floor that is there in reconstructions, 1 where nothing else is."""
        return (self.reconstructions - self.floor) / (self.samples - self.floor)

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {**asdict(self), "of_autoencoder": self.of_autoencoder}


def share(model: Model, dataset: Dataset, samples: Tensor, features: Features | str = "efficientnet") -> Share:
    """The Share of a model's samples, uint8 (N, C, H, W), of which as many are measured as there are held-out pictures, at most.

    Raises InputError for a model without an autoencoder, or fewer than two samples.
    """
    if not isinstance(model.codec, Trained):
        raise InputError(
            f"the model {model.recipe.name} has no autoencoder of which a share could be measured; its codec is "
            f"{model.recipe.sections['codec']['kind']!r}, and it must be kl or vq"
        )
    n = min(len(samples), len(dataset.heldout))
    ruler: Yardstick = yardstick(dataset, n, features)
    media: Tensor = heldout(dataset, n)[:n]
    made, again = ruler.measure(samples), ruler.measure(model.codec.model.again(media))
    return Share(made.value, again.value, ruler.floor, ruler.ceiling, n, ruler.reference, ruler.features.name)


def rates(model: KlModel, media: Tensor, rounds: int = 3) -> dict[str, float]:
    """Pictures a second, there and back: medians of so many rounds over pictures uint8 (B, C, H, W), after one to warm up."""
    latents = model.encode(media)
    return {
        "encode_images_per_s": _rate(model.encode, media, rounds),
        "decode_images_per_s": _rate(model.decode, latents, rounds),
    }


def _rate(way: Callable[[Tensor], Tensor], given: Tensor, rounds: int) -> float:
    way(given)
    return len(given) / statistics.median(_seconds(way, given) for _ in range(rounds))


def _seconds(way: Callable[[Tensor], Tensor], given: Tensor) -> float:
    start = time.perf_counter()
    way(given)
    return time.perf_counter() - start
