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
from carrara.errors import InputError
from carrara.predictions import Prediction, Row, check_readable, x0_reading
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import Schedule
from carrara.variances import Posterior, Variance, widest_variance
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


class Following(Protocol):
    """What an autoregressive denoiser can do besides: read tokens one after the other, and remember what it has read.

    (ids (B, m), cond, memory) -> (logits (B, m, K), memory): ids follow those that the memory holds, row j of the logits is about
    the token after ids[:, j]. The memory is None at first, and the first id is then the mask, which stands for the beginning.
    The memory is a value that is handed in and out; nothing is kept inside.
    """

    def __call__(self, ids: Tensor, cond: Cond | None, memory: Any, /) -> tuple[Tensor, Any]: ...


def following(denoiser: Any) -> Following | None:
    """The denoiser's `following`, where it has one."""
    found: Following | None = getattr(denoiser, "following", None)
    return found


class Reading(Protocol):
    """What a denoiser whose tokens show in rounds can do besides: read each round once, and remember it.

    (x_t (B, L), cond, memory) -> (logits (B, m, K), memory): the logits are about the m places of the next round, in the order of
    `carrara.planning.Planned.rounds`; all earlier rounds show in x_t. The memory is None at first, and says which round is next.
    It is a value that is handed in and out; nothing is kept inside.
    """

    def __call__(self, x_t: Tensor, cond: Cond | None, memory: Any, /) -> tuple[Tensor, Any]: ...


def reading(denoiser: Any) -> Reading | None:
    """The denoiser's `reading`, where it has one."""
    found: Reading | None = getattr(denoiser, "reading", None)
    return found


class Network(Protocol):
    """What a denoiser calls: raw output from x (B, C, *), level (B,) in [0, 1] and a condition.

    The output has x's shape; where the variance is learned, twice its channels: (B, 2C, *).
    """

    def __call__(self, x: Tensor, level: Tensor, cond: Cond | None = None) -> Tensor: ...


class GaussianDenoiser(nn.Module):
    """A network that has learned to remove Gaussian noise.

    The network sees x_t (scaled as its prediction asks) and the noise level; it never sees the schedule's own time. A
    `backend`, where one is set, computes in its place, see carrara.backends.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        prediction: Prediction,
        weight: Weight,
        variance: Variance | None = None,
    ) -> None:
        super().__init__()
        check_readable(process.schedule, prediction)
        self.network = network
        self.process = process
        self.prediction = prediction
        self.weight = weight
        self.variance: Variance = variance or Posterior()
        self.backend: Network | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Point:
        """The belief Point(x0, variance) about x0 given x_t (B, *) at t, a scalar or (B,), float64."""
        raw, extra = self.outputs(x_t, t, cond)
        widest = like(widest_variance(self.process.schedule, t), x_t)
        return Point(self._read(raw, x_t, t), self.variance.read(extra, widest.expand_as(x_t)))

    def loss(self, x0: Tensor, t: Tensor, cond: Cond | None, rng: Streams) -> Tensor:
        """The weighted squared error at times t (B,), averaged over each sample's numbers: (B,) float32.

        w(logsnr) (sigma / D)² ‖raw − (a x0 + b eps)‖², see predictions.py and weights.py; and where the variance is
        learned, what that costs, see variances.py.
        """
        x_t, eps = self.process.corrupt(x0, t, rng)
        row = self._row(t, x0)
        raw, extra = self.outputs(x_t, t, cond)
        error = raw - (row.a * x0 + row.b * eps)
        loss = error.square().flatten(1).mean(1) * self.raw_weight(t).to(error)
        scale = like(self.process.schedule.sigma(t) / self.prediction.determinant(self.process.schedule, t), error)
        added = self.variance.loss((scale * error.detach()).square(), extra, self.process.schedule, t)
        return loss if added is None else loss + added

    def raw_weight(self, t: Tensor) -> Tensor:
        """The factor on the squared error of the network's own output at t, shape of t: w · (sigma / D)²."""
        schedule = self.process.schedule
        w = self.weight(schedule.logsnr(t), schedule.rate(t))
        return w * (schedule.sigma(t) / self.prediction.determinant(schedule, t)) ** 2

    def raw(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """The network's output for the mean at x_t, of x_t's shape and dtype."""
        return self.outputs(x_t, t, cond)[0]

    def outputs(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor | None]:
        """The network's outputs at x_t for the mean and, where it is learned, for the variance.

        Each has x_t's shape and dtype, whatever precision the network computed in.
        """
        level = self.process.level(t).to(dtype=torch.float32, device=x_t.device).expand(len(x_t))
        out = self._computes()(self.seen(x_t, t), level, cond).to(x_t.dtype)
        if self.variance.outputs == 1:
            return out, None
        if out.shape[1] != 2 * x_t.shape[1]:
            raise InputError(
                f"a learned variance needs {2 * x_t.shape[1]} channels of the network, and it gives {out.shape[1]}; "
                "choose variance posterior or unit, or a network whose constructor takes `outputs`"
            )
        mean, extra = out.chunk(2, dim=1)
        return mean, extra

    def seen(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network sees of x_t (B, *): itself, scaled as its prediction asks."""
        return like(self.prediction.input_scale(self.process.schedule, t), x_t) * x_t

    def _computes(self) -> Network:
        """The backend, where there is one and only values are asked for; in training and for gradients the network."""
        if self.backend is None or self.training or torch.is_grad_enabled():
            network: Network = self.network
            return network
        return self.backend

    def _read(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        schedule = self.process.schedule
        p, q = x0_reading(self.prediction.row(schedule, t), schedule.alpha(t), schedule.sigma(t))
        return like(p, x_t) * x_t + like(q, x_t) * raw

    def _row(self, t: Tensor, x: Tensor) -> Row:
        a, b = self.prediction.row(self.process.schedule, t)
        return Row(like(a, x), like(b, x))


def gaussian(
    network: nn.Module, schedule: Schedule, prediction: Prediction, weight: Weight, variance: Variance
) -> GaussianDenoiser:
    """The denoiser of a recipe whose process is Gaussian: each part is a section of its own."""
    return GaussianDenoiser(network, Gaussian(schedule), prediction, weight, variance)


DENOISERS: dict[str, str] = {
    "gaussian": "carrara.denoisers:gaussian",
    "masked": "carrara.tokens:masked",
    "autoregressive": "carrara.tokens:autoregressive",
    "planned": "carrara.tokens:planned",
    "embedded": "carrara.embeddings:embedded",
}
"""By the kind of their process. What a function has parameters for of `network`, `vocab`, `table` and carrara.recipe.PARTS it is
given; the others are its options in the recipe. A recipe has those sections of PARTS that it asks for."""
