"""Masked diffusion by a plan: tokens are hidden round by round, and in which round a token is does not hang on chance.

A token of round r = 0 … R − 1 shows wherever alpha(t) ≥ (r + 1) / R, and is hidden elsewhere. So x_t is always the first rounds of
x0, and masks. Rounds of one token each, line by line, are an autoregressive model; one round of all tokens knows nothing of what
belongs together. Between them the rounds say what is paid for fewer evaluations.

Source: MAR, Autoregressive Image Generation without Vector Quantization, Li et al., 2024, for sets of tokens that follow each
other as what masked and autoregressive models have in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.masking import Masked
from carrara.processes import PLANNED
from carrara.rng import Streams
from carrara.schedules import Flow, Schedule

ROUNDING = 1e-9
"""alpha · R is a whole number where a round ends, but for this much."""


class Planned(Masked):
    """Tokens 0 … vocab − 1, hidden by the id `mask` = vocab, the last round first."""

    made_of = PLANNED

    def __init__(self, rounds: Sequence[int], vocab: int, schedule: Schedule | None = None) -> None:
        """`rounds`: that of each token of a sequence, from 0, which shows first; none is left out. `schedule`: `Flow()` where None.

        Raises InputError for rounds that leave one out, and what `Masked` raises it for.
        """
        super().__init__(schedule or Flow(), vocab)
        self.count = len(set(rounds))
        if not rounds or any(type(each) is not int for each in rounds) or set(rounds) != set(range(self.count)):
            raise InputError(
                f"the rounds are {sorted(set(rounds))}; each token has one, and they go from 0 on with none left out"
            )
        self.round = torch.tensor(rounds)

    @property
    def rounds(self) -> list[Tensor]:
        """The places of each round, in their order, as they show one after the other."""
        return [(self.round == r).nonzero()[:, 0] for r in range(self.count)]

    def left(self, t: Tensor, x: Tensor) -> Tensor:
        """Which places of x (B, L) are hidden at t, a scalar or (B,): bool (B, L)."""
        if x.shape[1] != len(self.round):
            raise InputError(f"there are {x.shape[1]} tokens, and the plan is of {len(self.round)}")
        shown = (self.schedule.alpha(t).double() * self.count + ROUNDING).floor().expand(len(x))
        return self.round.to(x.device) >= shown.to(x.device)[:, None]

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        """Raises InputError: what shows does not hang on chance, see `left`."""
        raise InputError("tokens show by a plan here, not by chance; ask `left` which are hidden")

    def rate(self, t: Tensor) -> Tensor:
        """Raises InputError, as `reveal` does."""
        return self.reveal(t, t)

    def hides(self, x0: Tensor, t: Tensor, rng: Streams) -> Tensor:
        """As `left`: nothing is drawn."""
        return self.left(t, x0)

    def shows(self, x_t: Tensor, t: Tensor, s: Tensor, rng: Streams) -> Tensor:
        """All that is not `left` at s. So a step is exact where no more than one round shows in it."""
        return ~self.left(s, x_t)
