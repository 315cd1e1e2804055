"""What a normal middle costs, and what brings its means to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

DEAD = 1e-3
"""Of the widest channel's deviation: what a channel's is taken for where it is narrower. It says nothing, and is not blown up."""


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """The divergence of N(mean, e^logvar) from N(0, 1), both (B, …), in nats a picture, (B,): ½ Σ (mean² + e^logvar − 1 − logvar).

    Source: Auto-Encoding Variational Bayes, Kingma & Welling, 2014, appendix B.
    """
    nats: Tensor = (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1) / 2
    return nats


@dataclass(frozen=True)
class Scaling:
    """What is taken off each latent channel, and what it is divided by then, both (C,) float32."""

    shift: Tensor
    scale: Tensor

    @classmethod
    def none(cls, channels: int) -> Scaling:
        """That of latents as they are."""
        return cls(torch.zeros(channels), torch.ones(channels))

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> Scaling:
        """The mean and the deviation of each channel of latents (B, C, h, w), given in one or more parts.

        A channel that is DEAD is divided by that much of the widest one's deviation.
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        first: Tensor | None = None
        for part in parts:
            z = part.double().cpu()
            first = (
                z.mean((0, 2, 3)) if first is None else first
            )  # Close to the mean, so that no digits are lost below.
            away = z - first[:, None, None]
            count += z[:, 0].numel()
            total, squares = total + away.sum((0, 2, 3)), squares + away.square().sum((0, 2, 3))
        assert first is not None
        mean, deviation = total / count, (squares / count - (total / count).square()).clamp(min=0).sqrt()
        least = (DEAD * deviation.max()).clamp(min=torch.finfo(torch.float32).tiny)
        return cls((first + mean).float(), deviation.maximum(least).float())

    def scaled(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) with mean 0 and variance 1 over the pictures that were measured."""
        return (z - self._like(self.shift, z)) / self._like(self.scale, z)

    def unscaled(self, latents: Tensor) -> Tensor:
        """The other way."""
        return latents * self._like(self.scale, latents) + self._like(self.shift, latents)

    def _like(self, values: Tensor, z: Tensor) -> Tensor:
        return values.to(z)[:, None, None]
