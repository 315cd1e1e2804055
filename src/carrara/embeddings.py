"""Gaussian diffusion of tokens: each stands for a vector of a learned table, and what is noised and believed in are vectors.

    x0 = E(w)                                                    the row of each token, every row of unit root mean square
    p(w | x_t) ∝ exp(⟨x0-hat, E_w⟩ / √D + (alpha / sigma²) ⟨x_t, E_w⟩)     rounding

The second term of rounding is Bayes' rule for what a position's own vector says, N(x_t; alpha E_w, sigma²), where all rows are
equally long, so that their norms drop out. The first is what the network has to add: what the other positions say. Process,
samplers and guidance are those of numbers.

Sources: Diffusion-LM Improves Controllable Text Generation, Li et al., 2022, for the end-to-end loss and for clamping; Continuous
Diffusion for Categorical Data (CDCD), Dieleman et al., 2022, for rows of one norm, cross entropy and the mean of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.beliefs import Point
from carrara.denoisers import Cond, GaussianDenoiser
from carrara.errors import InputError, RecipeError, nearest
from carrara.predictions import Prediction
from carrara.processes import Gaussian, like
from carrara.rng import Streams
from carrara.schedules import Schedule
from carrara.variances import Variance
from carrara.weights import Weight


class Table(nn.Module):
    """A learned vector of `width` numbers for each of `vocab` tokens, of which only the direction counts.

    Every row has a root mean square of one, so that the process's noise means the same for all of them. A codec and a denoiser
    have one such table together.
    """

    def __init__(self, vocab: int, width: int) -> None:
        """Directions are drawn from torch's generator. Raises InputError for fewer than 2 tokens or 1 number."""
        super().__init__()
        if vocab < 2 or width < 1:
            raise InputError(
                f"a table of {vocab} rows of {width} numbers tells no tokens apart; give 2 and 1 at least"
            )
        self.weight = nn.Parameter(torch.randn(vocab, width))

    @property
    def vocab(self) -> int:
        """How many tokens there are."""
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        """How many numbers a token is."""
        return self.weight.shape[1]

    @property
    def rows(self) -> Tensor:
        """(vocab, width), each of unit root mean square."""
        return F.normalize(self.weight, dim=1) * math.sqrt(self.width)

    def forward(self, ids: Tensor) -> Tensor:
        """x0 (…, width) of ids (…). Raises InputError for ids that are none of the table's."""
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab:
            raise InputError(
                f"ids go from {int(ids.min())} to {int(ids.max())}, and the table has rows 0 to {self.vocab - 1}"
            )
        return F.embedding(ids, self.rows)

    def products(self, x: Tensor) -> Tensor:
        """⟨x, E_w⟩ of vectors x (…, width) with every row, (…, vocab), in x's precision whatever autocast says."""
        with torch.autocast(x.device.type, enabled=False):
            return x @ self.rows.to(x.dtype).T

    def nearest(self, x: Tensor) -> Tensor:
        """The ids (…) of the rows nearest to vectors x (…, width), the likeliest where there is no noise; of rows their own."""
        return self.products(x).argmax(-1)


Clamp = Callable[[Table, Tensor, Tensor], Tensor]
"""(table, x0-hat (B, L, D), logits (B, L, vocab)) -> the x0 that is believed in, (B, L, D)."""


def none(table: Table, x0: Tensor, logits: Tensor) -> Tensor:
    """x0-hat as the network has it."""
    return x0


def mean(table: Table, x0: Tensor, logits: Tensor) -> Tensor:
    """Σ p(w | x_t) E_w: the mean of rows, which is the true belief where p is the true law of each position.

    Source: CDCD, Dieleman et al., 2022, section 3.1, score interpolation.
    """
    with torch.autocast(x0.device.type, enabled=False):
        found: Tensor = logits.softmax(-1) @ table.rows.to(x0.dtype)
        return found


def nearest_row(table: Table, x0: Tensor, logits: Tensor) -> Tensor:
    """The row of the likeliest token, so that each step commits itself.

    Source: Diffusion-LM, Li et al., 2022, section 4.2, the clamping trick.
    """
    found: Tensor = table(logits.argmax(-1))
    return found


CLAMPS: dict[str, Clamp] = {"none": none, "mean": mean, "nearest": nearest_row}


class EmbeddedDenoiser(GaussianDenoiser):
    """A network that has learned to remove noise from the vectors of tokens, and the table that these are rows of.

    `clamp`, a name in CLAMPS, says what is believed at times up to `clamp_from`: see there. Above it, and where it is none, the
    network's own x0-hat is.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        prediction: Prediction,
        weight: Weight,
        table: Table,
        variance: Variance | None = None,
        rounding: float = 1.0,
        clamp: str = "mean",
        clamp_from: float = 1.0,
    ) -> None:
        """`rounding`: what the nats of rounding count beside the squared error, above 0: without it all rows would become one.

        Raises InputError for what makes no denoiser, a learned variance among it.
        """
        super().__init__(network, process, prediction, weight, variance)
        if not 0 < rounding < math.inf:
            raise InputError(
                f"rounding is {rounding}; it must be above 0 and finite: without it all tokens would come to one vector"
            )
        if clamp not in CLAMPS:
            raise InputError(f"there is no clamp called {clamp!r}: {nearest(clamp, CLAMPS)}")
        if not 0 <= clamp_from <= 1:
            raise InputError(f"clamp_from is {clamp_from}; it is the time from which on beliefs are clamped, 0 to 1")
        if self.variance.outputs != 1:
            raise InputError("the variance of vectors of tokens is not learned; choose variance posterior or unit")
        self.table, self.rounding, self.clamp, self.clamp_from = table, rounding, clamp, clamp_from

    def forward(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Point:
        """The belief Point(x0, variance) given x_t (B, L, D) at t, a scalar or (B,), float64: clamped, see the class."""
        belief = super().forward(x_t, t, cond)
        return replace(belief, x0=self.clamped(belief.x0, self.logits(belief.x0, x_t, t), t))

    def evidence(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log N(x_t; alpha E_w, sigma²) but for a number a position, (B, L, vocab), t > 0: what each vector says by itself."""
        schedule = self.process.schedule
        return like(schedule.alpha(t) / schedule.sigma(t) ** 2, x_t) * self.table.products(x_t)

    def seen(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What the network sees of x_t (B, L, D): the mean of rows by each vector's own evidence."""
        return mean(self.table, x_t, self.evidence(x_t, t))

    def logits(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(w | x_t) but for a number a position, (B, L, vocab), from the network's x0-hat (B, L, D) and x_t, t > 0."""
        return self.table.products(x0) / math.sqrt(self.table.width) + self.evidence(x_t, t)

    def clamped(self, x0: Tensor, logits: Tensor, t: Tensor) -> Tensor:
        """What is believed of x0 where the network has x0-hat: see CLAMPS; x0-hat itself above `clamp_from`."""
        if self.clamp == "none":
            return x0
        late = like(t <= self.clamp_from, x0) > 0
        return torch.where(late, CLAMPS[self.clamp](self.table, x0, logits), x0)

    def loss(self, x0: Tensor, t: Tensor, cond: Cond | None, rng: Streams) -> Tensor:
        """w · ‖believed x0 − E(w)‖² / numbers + rounding · Σ −log p(w | x_t) / L, for ids w int64 (B, L) at t (B,): (B,) float32.

        `x0` are the ids: gradients reach the table through E(w), through x_t and through both p and the mean of rows. To choose
        the nearest row has no gradient, so there it is the network's x0-hat whose error counts.

        Source: Diffusion-LM, Li et al., 2022, eq. 2, with x0-hat for x0 in rounding.
        """
        ids, x0 = x0, self.table(x0)
        x_t, _ = self.process.corrupt(x0, t, rng)
        said = self._read(self.raw(x_t, t, cond), x_t, t)
        logits = self.logits(said, x_t, t)
        believed = said if self.clamp == "nearest" else self.clamped(said, logits, t)
        schedule = self.process.schedule
        square = (believed - x0).square().flatten(1).mean(1)
        w = self.weight(schedule.logsnr(t), schedule.rate(t)).to(square)
        return w * square + self.rounding * _nats(logits, ids).mean(1)

    def nats(self, x_t: Tensor, ids: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """−log p(w | x_t) of each position by itself, (B, L) float32, for ids w (B, L)."""
        return _nats(self.logits(super().forward(x_t, t, cond).x0, x_t, t), ids)


def _nats(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction="none").view_as(ids)


def embedded(
    network: nn.Module,
    schedule: Schedule,
    prediction: Prediction,
    weight: Weight,
    variance: Variance,
    table: Table | None = None,
    rounding: float = 1.0,
    clamp: Literal["none", "mean", "nearest"] = "mean",
    clamp_from: float = 1.0,
) -> EmbeddedDenoiser:
    """The denoiser of a recipe whose tokens are noised as vectors; options as for `EmbeddedDenoiser`.

    Raises RecipeError where the codec has no table.
    """
    if table is None:
        raise RecipeError(
            "the process embedded noises the vectors of tokens, and the recipe's codec has none; choose codec "
            "{kind: embedding, codec: {kind: bytes}}, or process masked or autoregressive for tokens as they are"
        )
    process = Gaussian(schedule)
    return EmbeddedDenoiser(
        network, process, prediction, weight, table, variance, rounding, clamp, clamp_from=clamp_from
    )
