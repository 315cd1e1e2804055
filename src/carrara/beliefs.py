"""Beliefs: what a denoiser believes of x0 when it has seen x_t.

Point(x0)       of numbers: their mean, and perhaps how wide the belief is around it
Tokens(logp)    of tokens: for each position the probability of each token of the vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError, NonFinite
from carrara.rng import Streams


class Shown(Protocol):
    """What can be looked at while a sample is made."""

    @property
    def preview(self) -> Tensor:
        """One x0 to show, of x_t's shape."""
        ...


@runtime_checkable
class Belief(Shown, Protocol):
    """What every belief can do, whatever the process."""

    def extrapolate(self, start: Self, scale: float | Tensor) -> Self:
        """start + scale · (self − start): guidance. Scale 0 gives `start`, 1 gives this belief, more goes beyond it.

        One scale for all, or one for each sample (B,).
        """
        ...

    def halves(self) -> tuple[Self, Self]:
        """The beliefs of the first and of the second half of the batch."""
        ...

    def told(self, known: Tensor, made: Tensor) -> Self:
        """This belief where `made` (bool, broadcasts over x0) is True; sure of `known` (of x0's shape) elsewhere."""
        ...

    def rescaled(self, strong: Self, share: float) -> Self:
        """This guided belief with a share of the deviation taken back that guidance has added to the `strong` one's."""
        ...

    def bounded(self, bounds: Callable[[Tensor], Tensor]) -> Self:
        """This belief with its x0 kept in bounds."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """The mean of x0, (B, *) float, and where it was learned the variance of x0 around it, of the same shape."""

    x0: Tensor
    variance: Tensor | None = None

    def extrapolate(self, start: Point, scale: float | Tensor) -> Point:
        """The mean extrapolated; the variance is this belief's own, for spreads do not extrapolate."""
        return Point(start.x0 + _each(scale, self.x0) * (self.x0 - start.x0), self.variance)

    def halves(self) -> tuple[Point, Point]:
        first, second = self.x0.chunk(2)
        if self.variance is None:
            return Point(first), Point(second)
        spreads = self.variance.chunk(2)
        return Point(first, spreads[0]), Point(second, spreads[1])

    def told(self, known: Tensor, made: Tensor) -> Point:
        """The known numbers where not made, with variance 0."""
        x0 = torch.where(made, self.x0, known.to(self.x0.dtype))
        return Point(x0, None if self.variance is None else self.variance * made)

    def rescaled(self, strong: Point, share: float) -> Point:
        """x0 scaled by share · std(strong) / std(this) + (1 − share), standard deviations over each sample's numbers.

        Source: Common Diffusion Noise Schedules and Sample Steps are Flawed, Lin et al., 2024, eq. 15–16, applied to x0.
        """
        axes = tuple(range(1, self.x0.ndim))
        ratio = strong.x0.std(axes, keepdim=True) / self.x0.std(axes, keepdim=True).clamp(min=1e-12)
        return Point(self.x0 * (share * ratio + 1 - share), self.variance)

    def bounded(self, bounds: Callable[[Tensor], Tensor]) -> Point:
        """The bounded mean; the variance stays as it is."""
        return Point(bounds(self.x0), self.variance)

    def first(self, count: int) -> Point:
        """That of the first samples of the batch."""
        return Point(self.x0[:count], None if self.variance is None else self.variance[:count])

    @property
    def preview(self) -> Tensor:
        return self.x0


@dataclass(frozen=True, slots=True)
class Tokens:
    """log p of each token at each position, (B, L, K) float, normalised over K; −inf where a token is impossible."""

    logp: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Tokens:
        """The belief of a network's output (B, L, K), in float32 at least."""
        return cls(F.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), -1))

    def extrapolate(self, start: Tokens, scale: float | Tensor) -> Tokens:
        """log p = log p_start + scale · (log p_self − log p_start), normalised: p_start^{1 − scale} p_self^scale.

        What either holds for impossible stays so; but beyond scale 1, where the power of `start`'s 0 would be infinite, it
        is this belief that says what is possible.
        """
        scale = torch.as_tensor(_each(scale, self.logp), dtype=self.logp.dtype, device=self.logp.device)
        both = self.logp.isfinite() & start.logp.isfinite()
        edge = torch.where(scale > 1, self.logp, torch.minimum(self.logp, start.logp))
        mixed = torch.where(both, start.logp + scale * (self.logp - start.logp), edge)
        return Tokens(F.log_softmax(torch.where(scale == 0, start.logp, mixed), -1))

    def halves(self) -> tuple[Tokens, Tokens]:
        first, second = self.logp.chunk(2)
        return Tokens(first), Tokens(second)

    def told(self, known: Tensor, made: Tensor) -> Tokens:
        """Probability 1 for the known ids (B, L) where not made; what they are where made is not looked at."""
        made = made.expand(known.shape)
        sure = torch.full_like(self.logp, -math.inf).scatter_(-1, known.masked_fill(made, 0)[..., None], 0.0)
        return Tokens(torch.where(made[..., None], self.logp, sure))

    def first(self, count: int) -> Tokens:
        """That of the first samples of the batch."""
        return Tokens(self.logp[:count])

    def put(self, rows: Tensor, other: Tokens) -> Tokens:
        """This belief with the samples `rows` (bool (B,)) replaced by those of `other`, one for each True, in order."""
        logp = self.logp.clone()
        logp[rows] = other.logp
        return Tokens(logp)

    def rescaled(self, strong: Tokens, share: float) -> Tokens:
        """Raises InputError: tokens have no standard deviation."""
        raise InputError(
            "guidance_rescale takes back the standard deviation of numbers, and tokens have none; leave guidance_rescale 0"
        )

    def bounded(self, bounds: Callable[[Tensor], Tensor]) -> Tokens:
        """Raises InputError: tokens have no bounds."""
        raise InputError(
            "a threshold keeps numbers in bounds, and tokens have none; leave it out, or choose threshold: {kind: none}"
        )

    @property
    def preview(self) -> Tensor:
        """The likeliest token of each position, (B, L)."""
        return self.logp.argmax(-1)

    def draw(
        self,
        rng: Streams | None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Ids (B, L), each position drawn by itself with one uniform number of its sample's stream; see `quantile`.

        Raises InputError for options that make no law, and where there is something to draw and no stream to draw from.
        """
        check_draw(temperature, top_k, top_p)
        if temperature == 0:
            u = torch.zeros(self.logp.shape[:-1], dtype=torch.float64, device=self.logp.device)
        elif rng is None:
            raise InputError("drawing tokens needs the samples' random streams: pass rng, or temperature 0")
        else:
            u = rng.uniform(self.logp.shape[1:-1], device=self.logp.device)
        return self.quantile(u, temperature, top_k, top_p, where)

    def quantile(
        self,
        u: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """The ids (B, L) at which the cumulated probabilities pass u (B, L) in [0, 1): an exact draw where u is uniform.

        All in float64: noise in float32 loses the tail of the uniform numbers, which lowers the temperature unasked.
        `temperature` divides log p, 0 takes the likeliest; then the `top_k` likeliest are kept (ties with the last too), then
        the fewest likeliest that hold at least `top_p`. `where` bool (B, L): the positions that are asked for; others are 0.

        Sources: Masked Diffusion Models are Secretly Time-Agnostic Masked Models, Zheng et al., 2024, for the
        precision; The Curious Case of Neural Text Degeneration, Holtzman et al., 2020, for top_p.
        """
        check_draw(temperature, top_k, top_p)
        where = torch.ones_like(u, dtype=torch.bool) if where is None else where
        ids = torch.zeros_like(u, dtype=torch.int64)
        logp = self.logp[where]
        if not len(logp):
            return ids
        if temperature == 0:
            most, ids[where] = logp.max(-1)
            _check_numbers(most)
            return ids
        p = torch.softmax(logp.double() / temperature, -1)
        _check_numbers(p[:, 0])  # One NaN makes all of its row NaN.
        p = kept(p, top_k, top_p)
        reached = p.cumsum(-1)
        # u is at most 1 − 2⁻⁵³, so u · total never rounds up to the total: what has no probability is never found.
        ids[where] = torch.searchsorted(reached, u[where][:, None] * reached[:, -1:], right=True)[:, 0]
        return ids


def _check_numbers(found: Tensor) -> None:
    """Raises NonFinite where one of them is NaN: the search for a token would find the mask then, and say nothing."""
    if bool(found.isnan().any()):
        raise NonFinite(
            "the belief about tokens holds NaN, so none can be drawn: the network's output is not finite. Its weights may be "
            "broken; where it computes in bf16, try float32"
        )


def kept(p: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Probabilities (n, K) with the least likely set to 0, see `Tokens.quantile`; not normalised again."""
    if top_k is not None and top_k < p.shape[-1]:
        p = torch.where(p >= p.topk(top_k).values[:, -1:], p, 0.0)
    if top_p is not None and top_p < 1:
        ranked, order = p.sort(descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked
        fewest = before < top_p * ranked.sum(-1, keepdim=True)
        p = torch.zeros_like(p).scatter_(-1, order, torch.where(fewest, ranked, 0.0))
    return p


def check_draw(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises InputError where these make no law to draw tokens from."""
    if not 0 <= temperature < math.inf:
        raise InputError(
            f"temperature is {temperature}; it is 0 (always the likeliest token), 1 (as believed) or another number above 0"
        )
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise InputError(f"top_k is {top_k!r}; it is how many tokens may be drawn, a whole number of at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(
            f"top_p is {top_p}; it is the share of the probability that is drawn from, above 0 and at most 1"
        )


def _each(scale: float | Tensor, x: Tensor) -> float | Tensor:
    """A scale for all, or one for each sample (B,) in x's dtype and device, with trailing axes of 1."""
    if isinstance(scale, Tensor) and scale.ndim:
        return scale.to(x).reshape(-1, *[1] * (x.ndim - 1))
    return float(scale)
