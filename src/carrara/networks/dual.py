"""Two heads that turn features of two kinds into directions of one space. Nothing here knows where the features are from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HOTTEST = 100.0
"""The largest scale of a similarity, which keeps the softmax from growing without end."""


class Head(nn.Module):
    """Unit vectors (B, dim) from features (B, inputs), each of which is first brought to mean 0 and deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.project = nn.Linear(inputs, dim)

    def measure(self, features: Tensor) -> None:
        """Takes mean and deviation from features (N, inputs); what hardly varies is not enlarged."""
        wide = features.double()
        std = wide.std(0, correction=0)
        self.mean.copy_(wide.mean(0))
        self.std.copy_(torch.where(std > 1e-3 * std.max(), std, torch.ones_like(std)))

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        """Begins at a map (dim, inputs) of standard features, without a shift."""
        self.project.weight.copy_(weight)
        self.project.bias.zero_()

    def standard(self, features: Tensor) -> Tensor:
        """The features (B, inputs) with mean 0 and deviation 1."""
        return (features - self.mean) / self.std

    def forward(self, standard: Tensor) -> Tensor:
        return F.normalize(self.project(standard).float(), dim=-1)


class DualEncoder(nn.Module):
    """A head for pictures and one for texts, with what turns their products into logits: · scale + shift.

    Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021, section 2.3, for the
    learned temperature 1 / scale; Sigmoid Loss for Language Image Pre-Training, Zhai et al., 2023, for the shift.
    """

    def __init__(self, pictures: int, texts: int, dim: int, temperature: float, shift: float | None = None) -> None:
        """`pictures`, `texts`: the lengths of their features; `shift`: where it begins, None where there is none."""
        super().__init__()
        self.pictures, self.texts = Head(pictures, dim), Head(texts, dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.shift = None if shift is None else nn.Parameter(torch.tensor(shift))

    def logits(self, similarity: Tensor) -> Tensor:
        """What the loss takes of cosines."""
        scaled = similarity * self.log_scale.exp().clamp(max=HOTTEST)
        return scaled if self.shift is None else scaled + self.shift
