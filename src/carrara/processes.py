"""Processes: how data becomes noise, and how one step goes back when x0 is believed to be known.

    corrupt     x_t ~ q(x_t | x0)                        the one-step closed form of the forward process
    step        x_s ~ q(x_s | x_t, x0),  s < t           the posterior, given a belief about x0
    prior       x_1, as it is before any step back
    start       x_t where a given x0 is changed, in part or all of it

A process has no weights. A sampler that knows nothing but these verbs walks every process. Noise of numbers is here, the masks of
tokens are in masking.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from carrara.beliefs import Belief, Point
from carrara.errors import InputError
from carrara.rng import Streams
from carrara.schedules import Level, Schedule

B = TypeVar("B", bound=Belief, contravariant=True)

NUMBERS, TOKENS, ORDERED, PLANNED = "numbers", "tokens", "tokens in their order", "tokens by a plan"
"""What x0 may be made of."""


class Process(Protocol, Generic[B]):
    """The forward corruption and its reverse, for Gaussian noise as for any other."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def made_of(self) -> str:
        """What x0 is made of: NUMBERS or TOKENS; ORDERED or PLANNED, where a model knows one order or plan of showing them."""
        ...

    def prior(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """x_1 of shape (B, *shape), row i from stream i."""
        ...

    def corrupt(self, x0: Tensor, t: Tensor, rng: Streams) -> tuple[Tensor, Tensor]:
        """(x_t, noise) for x0 (B, *) at t: a scalar or (B,)."""
        ...

    def step(
        self,
        x_t: Tensor,
        belief: B,
        t: Tensor,
        s: Tensor,
        rng: Streams | None,
        eta: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """x_s from x_t, s < t; eta = 1 draws from q(x_s | x_t, x0), eta = 0 adds no new noise and may go without `rng`.

        `temperature` multiplies what is drawn: at 0 the posterior's mean is taken for a draw from it.
        """
        ...

    def start(self, x0: Tensor, t: Tensor, made: Tensor | None, rng: Streams) -> Tensor:
        """x_t where a walk begins that changes x0 (B, *) where `made` (bool, broadcasts over it) is True; None: everywhere."""
        ...

    def shown(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t as it can be looked at, for films."""
        ...

    def probe(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """Something that a network may be given, (B, *shape), as varied as can be: what ways to compute it are compared on."""
        ...

    def level(self, t: Tensor) -> Tensor:
        """What a network is told of t, from 0 (data) to 1 (noise)."""
        ...


def like(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient, scalar or (B,), ready to multiply x (B, *): in x's dtype and device, with trailing axes of 1."""
    coefficient = coefficient.to(dtype=x.dtype, device=x.device)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - 1)) if coefficient.ndim else coefficient


class _Way(NamedTuple):
    """The coefficients of the posterior from t to s; the schedule is read once for all of them."""

    alpha_t: Tensor
    alpha_s: Tensor
    sigma_t: Tensor
    sigma_s: Tensor
    gain: Tensor
    """log(SNR_t / SNR_s), negative: as a difference of logarithms, for near t = s SNRs differ by less than rounding."""

    @classmethod
    def of(cls, schedule: Schedule, t: Tensor, s: Tensor) -> _Way:
        both = torch.stack((t.expand_as(s) if s.ndim else t, s.expand_as(t) if t.ndim else s))
        alpha, sigma = schedule.both(both)
        lam = (alpha / sigma).log()
        return cls(alpha[0], alpha[1], sigma[0], sigma[1], 2 * (lam[0] - lam[1]))

    @property
    def variance(self) -> Tensor:
        """Of q(x_s | x_t, x0)."""
        return -(self.sigma_s**2) * torch.expm1(self.gain)

    @property
    def pull(self) -> Tensor:
        """d mean / d x0."""
        return -self.alpha_s * torch.expm1(self.gain)

    def mean(self, x_t: Tensor, x0: Tensor, eta: float) -> Tensor:
        """alpha_s x0 + √(sigma_s² − eta² variance) · eps, the root without the difference's cancellation."""
        kept = self.sigma_s * (1 - eta**2 + eta**2 * self.gain.exp()).sqrt() if eta else self.sigma_s
        eps = (x_t - like(self.alpha_t, x_t) * x0) / like(self.sigma_t, x_t)
        return like(self.alpha_s, x_t) * x0 + like(kept, x_t) * eps

    def spread(self, x_t: Tensor, belief: Point) -> Tensor:
        """The variance of p(x_s | x_t), as it broadcasts over x_t: the posterior's, and what the belief's own adds."""
        variance = like(self.variance, x_t)
        return variance if belief.variance is None else variance + like(self.pull, x_t) ** 2 * belief.variance


class Gaussian:
    """x_t = alpha(t) x0 + sigma(t) eps, with eps standard normal.

    Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, eq. 4 and 6–7, in continuous time as in Variational
    Diffusion Models, Kingma et al., 2021, appendix A.
    """

    made_of = NUMBERS

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._exploding = schedule.exploding

    def prior(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """N(0, alpha(1)² + sigma(1)²), the variance of x_1 when the data's is one: (B, *shape) float32.

        That is DDPM's N(0, 1) under every variance-preserving schedule.
        """
        one = torch.ones((), dtype=torch.float64)
        std = torch.hypot(self.schedule.alpha(one), self.schedule.sigma(one))
        return std.float() * rng.normal(shape)

    def corrupt(self, x0: Tensor, t: Tensor, rng: Streams) -> tuple[Tensor, Tensor]:
        """(x_t, eps): q(x_t | x0) in one step."""
        eps = rng.normal(x0.shape[1:], dtype=x0.dtype, device=x0.device)
        return self.mix(x0, eps, t), eps

    def mix(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """alpha(t) x0 + sigma(t) eps."""
        return like(self.schedule.alpha(t), x0) * x0 + like(self.schedule.sigma(t), x0) * eps

    def start(self, x0: Tensor, t: Tensor, made: Tensor | None, rng: Streams) -> Tensor:
        """x_t ~ q(x_t | x0).

        Where a mask says what is made, that begins at t = 1 from the prior, and nothing there depends on x0. Without one, what
        alpha(1) leaves of x0 is still there: nothing under most schedules. Each stream is drawn from as for the prior alone, so
        the noise that follows is the same with a start and without.
        """
        x_t, _ = self.corrupt(x0, t, rng)
        if made is None or t < 1:
            return x_t
        return torch.where(made.to(x_t.device), self.prior(x0.shape[1:], Streams(rng.seeds)).to(x_t), x_t)

    def eps(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The noise that x_t holds if x0 is the data: (x_t − alpha x0) / sigma, t > 0."""
        return (x_t - like(self.schedule.alpha(t), x_t) * x0) / like(self.schedule.sigma(t), x_t)

    def posterior_variance(self, t: Tensor, s: Tensor) -> Tensor:
        """The variance of q(x_s | x_t, x0): sigma_s² (1 − SNR_t / SNR_s), shape of t.

        On DDPM's grid it is beta-tilde, (1 − alpha-bar_{t−1}) / (1 − alpha-bar_t) · beta_t.
        """
        return _Way.of(self.schedule, t, s).variance

    def posterior_mean(self, x_t: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The mean of q(x_s | x_t, x0): alpha_s x0 + √(sigma_s² − variance) · eps."""
        return _Way.of(self.schedule, t, s).mean(x_t, x0, 1.0)

    def reverse(self, x_t: Tensor, belief: Point, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, variance) of p(x_s | x_t): the posterior's under the believed x0, each as broadcasts over x_t (B, *).

        A belief with a variance adds (d mean / d x0)² times it, the law of total variance. So a belief sure of itself has
        DDPM's beta-tilde, one as wide as unit-variance data allows, sigma² / (alpha² + sigma²), has beta.
        """
        way = _Way.of(self.schedule, t, s)
        return way.mean(x_t, belief.x0, 1.0), way.spread(x_t, belief)

    def pull(self, t: Tensor, s: Tensor) -> Tensor:
        """d mean / d x0 of q(x_s | x_t, x0): alpha_s (1 − SNR_t / SNR_s), shape of t."""
        return _Way.of(self.schedule, t, s).pull

    def step(
        self,
        x_t: Tensor,
        belief: Point,
        t: Tensor,
        s: Tensor,
        rng: Streams | None,
        eta: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """x_s = alpha_s x0 + √(sigma_s² − eta² variance) · eps + temperature · eta · std · z.

        eta = 1 is DDPM's Algorithm 2 with the posterior's own variance, eta = 0 is DDIM; between them DDIM's eq. 12.
        std² is the variance, and what the belief's own adds to it (see `reverse`). eta = 1 at temperature 0 is the
        posterior's mean alone, which is no draw from anything: x_s has less noise than its time says. The step to t = 0 ends
        in the mean, as in DDPM, whatever the belief's variance.

        Source: Denoising Diffusion Implicit Models, Song et al., 2021, eq. 12 and 16.
        """
        if not 0 <= eta <= 1:
            raise InputError(
                f"eta is {eta}; it must lie in [0, 1], from no new noise (DDIM) to the posterior's own (DDPM)"
            )
        way = _Way.of(self.schedule, t, s)
        x_s = way.mean(x_t, belief.x0, eta)
        if eta == 0 or temperature == 0 or not s.any():
            return x_s
        if rng is None:
            raise InputError(
                f"a step with eta = {eta} adds noise and needs the samples' random streams: pass rng, or eta = 0"
            )
        z = rng.normal(x_t.shape[1:], dtype=x_t.dtype, device=x_t.device)
        std = temperature * eta * way.spread(x_t, belief).sqrt()
        return x_s + (std * like(s > 0, x_t) if s.ndim else std) * z

    def renoise(self, x_s: Tensor, s: Tensor, t: Tensor, rng: Streams, scale: float = 1.0) -> Tensor:
        """x_t ~ q(x_t | x_s), forward from s to t > s: (alpha_t / alpha_s) x_s + scale · √(sigma_t² − (…)² sigma_s²) z.

        Source: Kingma et al., 2021, eq. 17.
        """
        ratio = (self.schedule.logsnr(t) - self.schedule.logsnr(s)).clamp(max=0)
        lead = self.schedule.alpha(t) / self.schedule.alpha(s)
        std = self.schedule.sigma(t) * (-torch.expm1(ratio)).sqrt()
        z = rng.normal(x_s.shape[1:], dtype=x_s.dtype, device=x_s.device)
        return like(lead, x_s) * x_s + scale * like(std, x_s) * z

    def straight(self, at: Level) -> tuple[float, float]:
        """(c, clock): coordinates in which x_t / c is affine in the clock while x0 and eps are held.

        Where alpha stays 1 they are EDM's, c = 1 and clock = sigma; else those of flow matching, c = alpha + sigma and
        clock = sigma / c, which stays bounded: sigma / alpha may be infinite at t = 1, or 20,000 as in CosineBeta, and a
        second-order step that averages slopes over such a distance diverges.
        """
        c = at.alpha if self._exploding else at.alpha + at.sigma
        return c, at.sigma / c

    def at_clock(self, clock: Tensor) -> Tensor:
        """The time at which `straight`'s clock shows this: its inverse, shape of clock."""
        ratio = clock if self._exploding else clock / (1 - clock)
        return self.schedule.inverse(-2 * ratio.log())

    def slope(self, x_t: Tensor, belief: Point, at: Level) -> Tensor:
        """d(x / c) / dclock of the probability-flow ODE: eps in EDM's coordinates, eps − x0 in flow matching's."""
        eps = (x_t - at.alpha * belief.x0) / at.sigma
        return eps if self._exploding else eps - belief.x0

    def follow(self, x_t: Tensor, slope: Tensor, at_t: Level, at_s: Level) -> Tensor:
        """x_s when the slope is held from t to s."""
        (c_t, clock_t), (c_s, clock_s) = self.straight(at_t), self.straight(at_s)
        return c_s / c_t * x_t + c_s * (clock_s - clock_t) * slope

    def shown(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t brought to the data's size, to be looked at: divided by √(alpha² + sigma²) where that is above 1."""
        return x_t / like(torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t)).clamp(min=1), x_t)

    def level(self, t: Tensor) -> Tensor:
        """The noise level as an angle, see Schedule.level."""
        return self.schedule.level(t)

    def probe(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        return rng.normal(shape)
