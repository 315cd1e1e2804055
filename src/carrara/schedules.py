"""Schedules: how much of the data and how much noise there is at time t.

    x_t = alpha(t) x0 + sigma(t) eps,        t = 0: the data, t = 1: noise,        logsnr = log(alpha² / sigma²)

Every function is pure and works on tensors of any shape, elementwise; give times in float64, for near both ends alpha or
sigma is far below what float32 resolves beside 1. A table of T discrete steps is the grid t = i / T and can be read
between its knots.

A variance-preserving schedule (alpha² + sigma² = 1) is one function, its angle: alpha = cos(angle), sigma = sin(angle).

Where tokens are masked, alpha is the probability that one still shows and sigma that it does not, so alpha + sigma = 1:
`Flow`, `Polynomial` and `MaskCosine`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError

HALF_PI = math.pi / 2


@dataclass(frozen=True, slots=True)
class Level:
    """How much data and how much noise there is at one time, as plain numbers."""

    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """λ = log(alpha / sigma), half of logsnr: +inf at t = 0, −inf where alpha = 0."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


class Schedule(ABC):
    """alpha and sigma over t in [0, 1], with sigma(0) = 0 and alpha(0) = 1; logsnr falls strictly."""

    steps: int | None = None
    """T where the schedule is a table of T discrete steps, else None."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The share of the data at t: 1 at t = 0, shape of t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise at t: 0 at t = 0, shape of t."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """d alpha / dt, shape of t."""

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """d sigma / dt, shape of t."""

    @abstractmethod
    def inverse(self, logsnr: Tensor) -> Tensor:
        """The time t in [0, 1] at which `logsnr` is reached; values beyond the schedule's range give its ends."""

    def at_angle(self, angle: Tensor) -> Tensor:
        """The time t at which atan(sigma / alpha) is this angle, from 0 to π/2; beyond the schedule's range its ends."""
        return self.inverse(-2 * torch.tan(angle).log())

    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha² / sigma²): +inf at t = 0, and −inf at t = 1 where alpha(1) = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def both(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at t, each of t's shape."""
        return self.alpha(t), self.sigma(t)

    def levels(self, times: Tensor) -> list[Level]:
        """The level at each of the times (n,): a walk's coefficients are made of these, read once, in float64."""
        alpha, sigma = self.both(times)
        return [Level(a, b) for a, b in zip(alpha.tolist(), sigma.tolist(), strict=True)]

    def rate(self, t: Tensor) -> Tensor:
        """−d logsnr / dt = 2 (sigma′/sigma − alpha′/alpha), positive."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return 2 * (self.sigma_dot(t) * alpha - self.alpha_dot(t) * sigma) / (alpha * sigma)

    def level(self, t: Tensor) -> Tensor:
        """What a network is told of t: the noise level as an angle, (2/π) atan(sigma / alpha), from 0 to 1.

        It is finite at both ends and means the same under every schedule.
        """
        return torch.atan2(self.sigma(t), self.alpha(t)) / HALF_PI

    @property
    def exploding(self) -> bool:
        """Whether the data keeps its size and noise is only added (variance exploding): alpha is 1 to the end."""
        return self.alpha(torch.ones((), dtype=torch.float64)).item() == 1

    @property
    def zero_terminal(self) -> bool:
        """Whether nothing of the data is left at t = 1 (zero terminal signal-to-noise ratio)."""
        return self.alpha(torch.ones((), dtype=torch.float64)).item() == 0


class Flow(Schedule):
    """alpha = 1 − t, sigma = t: the straight path of flow matching and rectified flow.

    Source: Flow Matching for Generative Modeling, Lipman et al., 2023, eq. 20–22 with sigma_min = 0 and time reversed.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t.clone()

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def inverse(self, logsnr: Tensor) -> Tensor:
        return torch.sigmoid(-logsnr / 2)


class Polynomial(Schedule):
    """alpha = 1 − t^power, sigma = t^power: of tokens, the share that still shows; `Flow` is its power 1.

    Source: Simplified and Generalized Masked Diffusion for Discrete Data, Shi et al., 2024.
    """

    def __init__(self, power: float = 2.0) -> None:
        if not 0 < power < math.inf:
            raise InputError(f"power is {power}; it must be positive and finite (1 is the straight schedule)")
        self.power = float(power)

    def alpha(self, t: Tensor) -> Tensor:
        # Near t = 1 the difference cancels.
        return torch.where(t < 0.5, 1 - self.sigma(t), -torch.expm1(self.power * t.clamp(min=0.5).log()))

    def sigma(self, t: Tensor) -> Tensor:
        return t**self.power

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -self.sigma_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.power * t ** (self.power - 1)

    def inverse(self, logsnr: Tensor) -> Tensor:
        return torch.sigmoid(-logsnr / 2) ** (1 / self.power)


class MaskCosine(Schedule):
    """alpha = 1 − sin(π t / 2), sigma = sin(π t / 2): few tokens are shown at first, many at the end.

    Source: MaskGIT: Masked Generative Image Transformer, Chang et al., 2022, whose cos(π r / 2) at r = 1 − t it is.
    """

    def alpha(self, t: Tensor) -> Tensor:
        # Near t = 1 the difference cancels: 1 − cos(y) = 2 sin²(y / 2) with y = π (1 − t) / 2; at 0 the square is not quite 1.
        return torch.where(t < 0.5, 1 - self.sigma(t), 2 * torch.sin(HALF_PI / 2 * (1 - t)) ** 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(HALF_PI * t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -self.sigma_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return HALF_PI * torch.sin(HALF_PI * (1 - t))

    def inverse(self, logsnr: Tensor) -> Tensor:
        alpha, sigma = torch.sigmoid(logsnr / 2), torch.sigmoid(-logsnr / 2)
        return torch.atan2(sigma, (alpha * (1 + sigma)).sqrt()) / HALF_PI


class EDM(Schedule):
    """alpha = 1, sigma = sigma_max · t: the variance-exploding schedule sigma(t) = t of EDM, with t scaled to [0, 1].

    Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et al., 2022, section 3.
    """

    def __init__(self, sigma_max: float = 80.0) -> None:
        if not 0 < sigma_max < math.inf:
            raise InputError(f"sigma_max is {sigma_max}; it must be positive and finite (80 is usual)")
        self.sigma_max = sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)

    def inverse(self, logsnr: Tensor) -> Tensor:
        return (torch.exp(-logsnr / 2) / self.sigma_max).clamp(max=1)


class VariancePreserving(Schedule):
    """alpha = cos(angle(t)), sigma = sin(angle(t)), the angle rising from 0 to at most π/2."""

    @abstractmethod
    def angle(self, t: Tensor) -> Tensor:
        """The angle at t, in [0, π/2]."""

    @abstractmethod
    def angle_dot(self, t: Tensor) -> Tensor:
        """d angle / dt, positive."""

    @abstractmethod
    def angle_inverse(self, angle: Tensor) -> Tensor:
        """The time at which the angle is reached, clamped to [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        # cos(π/2) is 6e-17 in floating point; the sine of the complement is exactly 0.
        return torch.sin(HALF_PI - self.angle(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(self.angle(t))

    def both(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.angle(t)
        return torch.sin(HALF_PI - angle), torch.sin(angle)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -self.sigma(t) * self.angle_dot(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.angle_dot(t)

    def inverse(self, logsnr: Tensor) -> Tensor:
        return self.angle_inverse(torch.atan(torch.exp(-logsnr / 2)))


class Cosine(VariancePreserving):
    """angle = π t / 2: the cosine schedule, exact at both ends.

    Source: Progressive Distillation for Fast Sampling of Diffusion Models, Salimans & Ho, 2022, section 4.
    """

    def angle(self, t: Tensor) -> Tensor:
        return HALF_PI * t

    def angle_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, HALF_PI)

    def angle_inverse(self, angle: Tensor) -> Tensor:
        return angle / HALF_PI


class Table(VariancePreserving):
    """A variance-preserving schedule given by T discrete noise rates beta_1 … beta_T.

    alpha(i/T)² = Π_{j ≤ i} (1 − beta_j), exact at the knots t = i/T, the angle linear between them.
    With `zero_terminal` alpha is shifted and scaled so that alpha(1) = 0 and alpha(1/T) stays.

    Sources: Denoising Diffusion Probabilistic Models, Ho et al., 2020, eq. 4; Common Diffusion Noise Schedules and Sample
    Steps are Flawed, Lin et al., 2024, algorithm 1.
    """

    def __init__(self, betas: Tensor, zero_terminal: bool = False) -> None:
        if betas.ndim != 1 or len(betas) < 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise InputError("betas must be a row of numbers strictly between 0 and 1")
        log_alpha_bar = torch.log1p(-betas.double()).cumsum(0)
        alpha, sigma = (log_alpha_bar / 2).exp(), log_alpha_bar.expm1().neg().sqrt()
        if zero_terminal:
            if len(betas) < 2:
                raise InputError("zero_terminal needs a table of at least 2 steps")
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
            sigma = (1 - alpha * alpha).sqrt()
        self.steps = len(betas)
        self._knots = torch.cat([torch.zeros(1, dtype=torch.float64), torch.atan2(sigma, alpha)])

    def angle(self, t: Tensor) -> Tensor:
        i, knots = self._cell(t), self._knots.to(t)
        return torch.lerp(knots[i], knots[i + 1], t * len(self) - i)

    def angle_dot(self, t: Tensor) -> Tensor:
        i, knots = self._cell(t), self._knots.to(t)
        return (knots[i + 1] - knots[i]) * len(self)

    def angle_inverse(self, angle: Tensor) -> Tensor:
        knots = self._knots.to(angle)
        i = (torch.searchsorted(knots, angle.contiguous(), right=True) - 1).clamp(0, len(self) - 1)
        return ((i + (angle - knots[i]) / (knots[i + 1] - knots[i])) / len(self)).clamp(0, 1)

    def __len__(self) -> int:
        return len(self._knots) - 1

    def _cell(self, t: Tensor) -> Tensor:
        return (t * len(self)).floor().long().clamp(0, len(self) - 1)


class LinearBeta(Table):
    """DDPM's schedule: beta rises linearly from 1e-4 to 0.02 in T = 1000 steps.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, section 4.
    """

    def __init__(
        self, steps: int = 1000, start: float = 1e-4, end: float = 0.02, zero_terminal: bool = False
    ) -> None:
        super().__init__(_linspace(start, end, steps), zero_terminal)


class ScaledLinearBeta(Table):
    """Stable Diffusion's schedule: the square root of beta rises linearly.

    Source: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al., 2022, released configuration.
    """

    def __init__(
        self, steps: int = 1000, start: float = 0.00085, end: float = 0.012, zero_terminal: bool = False
    ) -> None:
        super().__init__(_linspace(math.sqrt(start), math.sqrt(end), steps) ** 2, zero_terminal)


class CosineBeta(Table):
    """Improved DDPM's schedule: a cosine with offset s, as T discrete steps whose beta is at most 0.999.

    Source: Improved Denoising Diffusion Probabilistic Models, Nichol & Dhariwal, 2021, eq. 17.
    """

    def __init__(self, steps: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> None:
        t = torch.arange(_at_least_one(steps) + 1, dtype=torch.float64) / steps
        alpha_bar = torch.cos((t + offset) / (1 + offset) * HALF_PI) ** 2
        super().__init__((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max))


def _linspace(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, _at_least_one(steps), dtype=torch.float64)


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise InputError(f"a schedule of {steps} steps is not possible; give 1 or more (1000 is usual)")
    return steps


SCHEDULES: dict[str, type[Schedule]] = {
    "flow": Flow,
    "cosine": Cosine,
    "edm": EDM,
    "linear_beta": LinearBeta,
    "scaled_linear_beta": ScaledLinearBeta,
    "cosine_beta": CosineBeta,
}
"""Of Gaussian noise, by name."""

SURVIVALS: dict[str, type[Schedule]] = {"flow": Flow, "polynomial": Polynomial, "mask_cosine": MaskCosine}
"""Of masks, by name: those with alpha + sigma = 1 and alpha(1) = 0."""
