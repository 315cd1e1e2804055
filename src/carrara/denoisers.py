"""Denoisers: a network, a process and a prediction become a belief about x0, and a loss.

A denoiser is anything that can be called as `denoiser(x_t, t, cond) -> belief` and has a `process`. Samplers and guidance need
no more, so an exact formula, a guided pair of networks and a trained network are used alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from carrara.beliefs import Point
from carrara.predictions import Prediction, Row, check_readable, solve
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.weights import Weight

Cond = Mapping[str, Tensor]
"""A condition: named tensors, each with the batch as its first axis, e.g. {"label": (B,)}."""


class Denoiser(Protocol):
    """What samplers and guidance call."""

    @property
    def process(self) -> Any:
        """The process whose noise this denoiser removes."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        """The belief about x0 given x_t (B, *) at t, a scalar or (B,), float64."""
        ...


class Network(Protocol):
    """What a denoiser calls: raw output of x's shape from x (B, *), level (B,) in [0, 1] and a condition."""

    def __call__(self, x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor: ...


class GaussianDenoiser(nn.Module):
    """A network that has learned to remove Gaussian noise.

    The network sees x_t (scaled as its prediction asks) and the noise level; it never sees the schedule's own time.
    """

    def __init__(self, network: nn.Module, process: Gaussian, prediction: Prediction, weight: Weight) -> None:
        super().__init__()
        check_readable(process.schedule, prediction)
        self.network = network
        self.process = process
        self.prediction = prediction
        self.weight = weight

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Point:
        """The belief Point(x0) about x0 given x_t (B, *) at t, a scalar or (B,), float64."""
        raw, schedule = self.raw(x_t, t, cond), self.process.schedule
        alpha, sigma = like(schedule.alpha(t), x_t), like(schedule.sigma(t), x_t)
        return Point(solve(self._row(t, x_t), raw, x_t, alpha, sigma)[0])

    def loss(self, x0: Tensor, t: Tensor, cond: Cond | None, rng: Streams) -> Tensor:
        """The weighted squared error at times t (B,), averaged over each sample's numbers: (B,) float32.

        w(logsnr) (sigma / D)² ‖raw − (a x0 + b eps)‖², see predictions.py and weights.py.
        """
        x_t, eps = self.process.corrupt(x0, t, rng)
        row = self._row(t, x0)
        error = self.raw(x_t, t, cond) - (row.a * x0 + row.b * eps)
        return error.square().flatten(1).mean(1) * self.raw_weight(t).to(error)

    def raw_weight(self, t: Tensor) -> Tensor:
        """The factor on the squared error of the network's own output at t, shape of t: w · (sigma / D)²."""
        schedule = self.process.schedule
        w = self.weight(schedule.logsnr(t), schedule.rate(t))
        return w * (schedule.sigma(t) / self.prediction.determinant(schedule, t)) ** 2

    def raw(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """The network's output at x_t, in x_t's dtype whatever precision the network computed in."""
        schedule = self.process.schedule
        scale = like(self.prediction.input_scale(schedule, t), x_t)
        level = self.process.level(t).to(dtype=torch.float32, device=x_t.device).expand(len(x_t))
        raw: Tensor = self.network(scale * x_t, level, cond)
        return raw.to(x_t.dtype)

    def _row(self, t: Tensor, x: Tensor) -> Row:
        a, b = self.prediction.row(self.process.schedule, t)
        return Row(like(a, x), like(b, x))
