"""Variances: how wide a denoiser believes x0 to be around its mean.

The variance of one step back is the posterior's plus what the belief's own adds (`Gaussian.reverse`). So to choose DDPM's
variance, or to learn it, is to choose a belief's, and whatever is chosen holds under every schedule and for every size of
step.

    name        Var[x0 | x_t]                          one step back on DDPM's grid
    posterior   0: the mean is taken for the truth     beta-tilde
    unit        sigma² / (alpha² + sigma²)             beta
    learned     u · sigma² / (alpha² + sigma²)         between them, u a share that the network gives

sigma² / (alpha² + sigma²) is the variance of x0 given x_t where x0 is standard normal: it is finite at both ends of every
schedule, 0 at t = 0 and 1 where nothing of the data is left. A logarithm of it would not be.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.schedules import Schedule


class Variance(Protocol):
    """What a belief's variance is, and what learning it costs."""

    outputs: int
    """How many numbers the network gives for each number of the data: 1, or 2 where the second is for the variance."""

    def read(self, extra: Tensor | None, widest: Tensor) -> Tensor | None:
        """The variance (B, *) from the network's second output and the `widest` it may be, (B, *); None: none is believed."""
        ...

    def loss(self, square: Tensor, extra: Tensor | None, schedule: Schedule, t: Tensor) -> Tensor | None:
        """What is added to each sample's loss at t (B,): (B,), or None for nothing.

        `square` (B, *) are the squared errors of x0, cut off from the mean's gradient.
        """
        ...


class Posterior:
    """None: the step's variance is that of q(x_s | x_t, x0), DDPM's beta-tilde.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, section 3.2.
    """

    outputs = 1

    def read(self, extra: Tensor | None, widest: Tensor) -> Tensor | None:
        return None

    def loss(self, square: Tensor, extra: Tensor | None, schedule: Schedule, t: Tensor) -> Tensor | None:
        return None


class Unit(Posterior):
    """sigma² / (alpha² + sigma²): the step's variance is beta, the best where the data is standard normal.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, section 3.2.
    """

    def read(self, extra: Tensor | None, widest: Tensor) -> Tensor | None:
        return widest


class Learned:
    """u · sigma² / (alpha² + sigma²) with u = sigmoid(the network's second output), one for each number of the data.

    The step's variance is then (1 − u) beta-tilde + u beta, iDDPM's interpolation (there between the logarithms). u alone
    learns from the bound, added to the loss as

        weight · steps · KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)),   s = max(t − 1/steps, t/2),   in nats a number of the data,

    with the mean's gradient stopped. For t uniform on the grid i/steps the mean of steps · KL is the bound's L_1 … L_{T−1};
    `weight` is iDDPM's lambda. The last step would end at the data itself, where the KL is infinite: it goes half-way.
    Whatever the weight and the steps, u is best where the variance equals E[(x0 − mean)² | x_t].

    Source: Improved Denoising Diffusion Probabilistic Models, Nichol & Dhariwal, 2021, eq. 15–16.
    """

    outputs = 2

    def __init__(self, weight: float = 0.001, steps: int = 1000) -> None:
        if not weight > 0:
            raise InputError(f"variance.weight is {weight}; it must be positive (0.001 is usual)")
        if steps < 1:
            raise InputError(f"variance.steps is {steps}; it must be at least 1 (1000 is usual)")
        self.weight, self.steps = weight, steps

    def read(self, extra: Tensor | None, widest: Tensor) -> Tensor | None:
        assert extra is not None
        return torch.sigmoid(extra) * widest

    def loss(self, square: Tensor, extra: Tensor | None, schedule: Schedule, t: Tensor) -> Tensor | None:
        assert extra is not None
        s = torch.maximum(t - 1 / self.steps, t / 2)
        between, widest = snr_gap(schedule, t, s), widest_variance(schedule, t)
        shape = t.shape + (1,) * (square.ndim - 1)
        # Products in float64 before they meet the data: SNR alone may be beyond what float32 holds well.
        ratio = (between * widest).reshape(shape).to(square) * torch.sigmoid(extra)
        kl = divergence(square * between.reshape(shape).to(square), ratio)
        return self.weight * self.steps * kl.flatten(1).mean(1)


def widest_variance(schedule: Schedule, t: Tensor) -> Tensor:
    """sigma² / (alpha² + sigma²), shape of t: the variance of standard normal data given x_t."""
    return torch.sin(torch.atan2(schedule.sigma(t), schedule.alpha(t))) ** 2


def snr_gap(schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """SNR(s) − SNR(t) for 0 < s < t, shape of t: what an error of x0 weighs twice in the step from t to s.

    Source: Variational Diffusion Models, Kingma et al., 2021, eq. 13.
    """
    return -schedule.logsnr(s).exp() * torch.expm1(schedule.logsnr(t) - schedule.logsnr(s))


def divergence(error: Tensor, spread: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x0) ‖ p(x_s | x_t)) of each number, nats, p being `Gaussian.reverse` of a belief (mean, variance).

    With g = SNR(s) − SNR(t), `error` is g (x0 − mean)² and `spread` is g · variance: the two laws' variances are as
    1 : 1 + spread, and the squared distance of their means is `error` in units of the first. So it is

        ½ [ (error − spread) / (1 + spread) + log(1 + spread) ],

    ½ error where the belief has no variance.
    """
    return 0.5 * ((error - spread) / (1 + spread) + torch.log1p(spread))


VARIANCES: dict[str, type[Variance]] = {
    "posterior": Posterior,
    "unit": Unit,
    "learned": Learned,
}
