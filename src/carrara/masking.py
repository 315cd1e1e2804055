"""Masked diffusion: [MASK] as the noise of tokens.

Each token of x0 is hidden by itself at a time of its own, t ~ the law with P(hidden at t) = sigma(t) = 1 − alpha(t), and stays
hidden from there on. Going back, what is hidden is shown at its time and drawn from what is believed of it; what is shown stays.

    q(x_t | x0)          each token is itself with probability alpha(t), else the mask
    q(x_s | x_t, x0)     a mask turns into its token with probability 1 − sigma(s) / sigma(t), s < t

Sources: Structured Denoising Diffusion Models in Discrete State-Spaces (D3PM), Austin et al., 2021, absorbing state;
Simple and Effective Masked Diffusion Language Models (MDLM), Sahoo et al., 2024; Shi et al., 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carrara.beliefs import Tokens
from carrara.errors import InputError
from carrara.processes import ORDERED, TOKENS, like
from carrara.rng import Streams
from carrara.schedules import SURVIVALS, Schedule


class Masked:
    """Tokens 0 … vocab − 1, hidden by the id `mask` = vocab, one by one."""

    made_of = TOKENS

    def __init__(self, schedule: Schedule, vocab: int) -> None:
        """`schedule`: alpha(t) is the probability that a token still shows. Raises InputError where it is none."""
        if isinstance(vocab, bool) or not isinstance(vocab, int) or vocab < 1:
            raise InputError(f"vocab is {vocab!r}; it is how many different tokens there are, a whole number above 0")
        _check_survival(schedule)
        self.schedule, self.vocab = schedule, vocab

    @property
    def mask(self) -> int:
        """The id that stands for what is hidden."""
        return self.vocab

    def prior(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """x_1, all of it hidden: int64 (B, *shape), one row for each stream, which are not drawn from."""
        return torch.full((len(rng), *shape), self.mask)

    def corrupt(self, x0: Tensor, t: Tensor, rng: Streams) -> tuple[Tensor, Tensor]:
        """(x_t, what is hidden in it, bool) for x0 int64 (B, L) at t, a scalar or (B,)."""
        hidden = self.hides(x0, t, rng)
        return x0.masked_fill(hidden, self.mask), hidden

    def hides(self, x0: Tensor, t: Tensor, rng: Streams) -> Tensor:
        """What is hidden of x0 (B, L) at t, a scalar or (B,): bool (B, L)."""
        return rng.uniform(x0.shape[1:], device=x0.device) < _each(self.schedule.sigma(t), x0)

    def shows(self, x_t: Tensor, t: Tensor, s: Tensor, rng: Streams) -> Tensor:
        """What of that which is hidden at t shows at s, bool (B, L); what it says where nothing is hidden is not looked at."""
        return rng.uniform(x_t.shape[1:], device=x_t.device) < _each(self.reveal(t, s), x_t)

    def hidden(self, x_t: Tensor) -> Tensor:
        """Where the mask is, bool of x_t's shape."""
        return x_t == self.mask

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        """The probability that what is hidden at t shows at s < t: (alpha_s − alpha_t) / (1 − alpha_t), 1 where s is 0."""
        return 1 - self.schedule.sigma(s) / self.schedule.sigma(t)

    def rate(self, t: Tensor) -> Tensor:
        """−alpha′ / (1 − alpha): how fast what is hidden at t is shown as time runs back, shape of t, t > 0."""
        return -self.schedule.alpha_dot(t) / self.schedule.sigma(t)

    def when(self, share: Tensor) -> Tensor:
        """The time at which this share, 0 to 1, of the tokens is hidden: sigma's inverse, shape of `share`, float64."""
        share = share.double()
        return self.schedule.inverse(2 * ((1 - share).log() - share.log()))

    def step(
        self,
        x_t: Tensor,
        belief: Tokens,
        t: Tensor,
        s: Tensor,
        rng: Streams | None,
        eta: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """x_s: each mask is shown with probability `reveal`, as a token drawn from the belief; what is shown stays.

        Two uniform numbers a position are drawn from each sample's stream, whatever is shown. At temperature 0 the likeliest
        token is taken for a draw. Tokens that are shown in one step are drawn independently of each other, which is the step's only
        error. Raises InputError for an eta other than 1.

        Source: MDLM, Sahoo et al., 2024.
        """
        if eta != 1:
            raise InputError(
                f"eta is {eta}; what a mask adds is a draw or nothing, so there is only eta = 1: leave it out, "
                "or lower the temperature for less of chance"
            )
        if rng is None:
            raise InputError("a step draws what is shown and needs the samples' random streams: pass rng")
        shown = self.shows(x_t, t, s, rng) & self.hidden(x_t)
        return torch.where(shown, belief.draw(rng, temperature, where=shown), x_t)

    def start(self, x0: Tensor, t: Tensor, made: Tensor | None, rng: Streams) -> Tensor:
        """x_t ~ q(x_t | x0) where it is made, x0 where it is kept: that is shown from the beginning.

        At t = 1 all that is made is hidden. Raises InputError where what is kept is no token.
        """
        made = torch.ones_like(x0, dtype=torch.bool) if made is None else made.expand(x0.shape)
        strange = x0[~made | (t < 1)]
        if len(strange) and not 0 <= int(strange.min()) <= int(strange.max()) < self.vocab:
            raise InputError(
                f"what is kept holds ids from {int(strange.min())} to {int(strange.max())}; tokens are 0 to {self.vocab - 1}, and "
                f"what is not given, such as the mask {self.mask}, must be marked as made"
            )
        return torch.where(made, self.corrupt(x0, t, rng)[0], x0)

    def shown(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t itself: codecs show a mask as a placeholder."""
        return x_t

    def probe(self, shape: Sequence[int], rng: Streams) -> Tensor:
        """Any tokens and masks, int64 (B, *shape)."""
        return (rng.uniform(shape) * (self.vocab + 1)).long()

    def level(self, t: Tensor) -> Tensor:
        """sigma(t): the share that is hidden, from 0 to 1."""
        return self.schedule.sigma(t)


class InOrder(Masked):
    """The same for a model that knows tokens in their order alone: it is drawn from in no other."""

    made_of = ORDERED


def _each(share: Tensor, x: Tensor) -> Tensor:
    """A share, scalar or (B,), in float64 and ready to be compared with one number for each of x's (B, *)."""
    return like(share, x.new_empty((), dtype=torch.float64).expand(x.shape))


def _check_survival(schedule: Schedule) -> None:
    """Raises InputError unless alpha is the probability that a token shows, and sigma that it does not, from 1 down to 0."""
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, sigma = schedule.both(t)
    name, choose = (
        type(schedule).__name__,
        f"choose the schedule {', '.join(SURVIVALS)}, or one of your own like them",
    )
    if float((alpha + sigma - 1).abs().max()) > 1e-9:
        raise InputError(
            f"under the schedule {name} alpha + sigma is not 1, so they are no shares of tokens shown and hidden; {choose}"
        )
    if float(alpha[-1]) != 0:
        raise InputError(
            f"under the schedule {name} a share of {float(alpha[-1]):g} of the tokens still shows at t = 1, where all must be "
            f"hidden; {choose}"
        )
