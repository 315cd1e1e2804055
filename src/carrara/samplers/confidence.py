"""The samplers of MaskGIT and Mask-Predict: how many tokens show at a time is the schedule's, which ones is the belief's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.processes import TOKENS
from carrara.rng import Streams
from carrara.samplers.step import Step, of, pairs


@torch.no_grad()
def confidence(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    temperature: float = 1.0,
    choice_temperature: float = 4.5,
    remask: bool = False,
) -> Iterator[Step]:
    """All that is hidden is drawn, and then the least certain is hidden again, as many as the schedule hides at s.

    How certain a token is: the log of the probability with which it was believed, and Gumbel noise, `choice_temperature` · s
    times as much, so that the order is chance's at first and the belief's in the end. `remask` False is MaskGIT: what shows
    stays. True is Mask-Predict: any token that was made here may be hidden again, by the certainty it was made with. What shows
    at the beginning always stays. It is no draw from the model's law, though often a better sample in few steps.

    Sources: MaskGIT, Chang et al., 2022, with the noise of its released code; Mask-Predict: Parallel Decoding of
    Conditional Masked Language Models, Ghazvininejad et al., 2019.
    """
    process = of(TOKENS, denoiser.process)
    _check(rng, temperature, choice_temperature)
    made = process.hidden(x)
    score = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        hidden = process.hidden(x)
        drawn = belief.draw(rng, temperature, where=hidden)
        x = torch.where(hidden, drawn, x)
        score = torch.where(hidden, belief.logp.gather(-1, drawn[..., None])[..., 0].double(), score)
        left = _left(made.sum(1), process.schedule.sigma(s) / process.schedule.sigma(times[0]))
        certain = score + choice_temperature * float(s) * _gumbel(rng, x) if choice_temperature else score
        x = x.masked_fill(_lowest(certain, made if remask else hidden, left), process.mask)
        yield Step(index, t, s, x, belief)


def _left(count: Tensor, share: Tensor) -> Tensor:
    """How many of `count` (B,) tokens stay hidden: the whole number below share · count, but for rounding."""
    return (share.item() * count.double() + 1e-9).floor().long()


def _lowest(score: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """bool (B, L): the `count` (B,) lowest scores of each sample among those places; of equals the first."""
    order = score.masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return (rank < count[:, None]) & among


def _gumbel(rng: Streams | None, x: Tensor) -> Tensor:
    """Gumbel noise, float64 of x's shape (B, L)."""
    assert rng is not None
    u = rng.uniform(x.shape[1:], device=x.device).clamp(min=2**-53)
    return -torch.log(-torch.log(u))


def _check(rng: Streams | None, temperature: float, choice_temperature: float) -> None:
    if not 0 <= choice_temperature < torch.inf:
        raise InputError(
            f"choice_temperature is {choice_temperature}; it is 0 (the surest tokens stay) or a number above it (4.5 is MaskGIT's)"
        )
    if rng is None and (temperature or choice_temperature):
        raise InputError(
            "confidence draws tokens and places and needs the samples' random streams: pass rng, or both temperatures 0"
        )
