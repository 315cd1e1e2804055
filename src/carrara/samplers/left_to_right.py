"""The sampler of autoregressive models: one token after the other, each drawn given those before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carrara.beliefs import Shown, Tokens, check_draw
from carrara.denoisers import Cond, Denoiser, following
from carrara.errors import InputError
from carrara.processes import ORDERED, TOKENS
from carrara.rng import Streams
from carrara.samplers.step import Step, of


@torch.no_grad()
def left_to_right(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Step]:
    """Each hidden token of x from the first position to the last, a Step for each; what shows stays.

    An autoregressive denoiser reads every token once and remembers it (see `carrara.denoisers.Following`), all that is given before
    the first hidden one together; any other is asked anew at each position, all before it shown. Both draw exactly from
    what they believe. `temperature` 0 is greedy; for it and for `top_k` and `top_p` see `Tokens.quantile`. The times are not
    looked at: t is that of the share which is left.
    """
    process, follow, memory, read = of(TOKENS, denoiser.process, ORDERED), following(denoiser), None, 0
    u = uniforms(x, rng, temperature, top_k, top_p)
    # Where nothing is hidden, one Step is made that changes nothing.
    places = process.hidden(x).any(0).nonzero()[:, 0].tolist() or [x.shape[1] - 1]
    for index, place in enumerate(places):
        t, s = process.when(1 - torch.tensor([place, place + 1], dtype=torch.float64) / x.shape[1])
        belief: Shown
        if follow is None:
            whole: Tokens = denoiser(x, t, cond)
            here, belief = Tokens(whole.logp[:, place : place + 1]), whole
        else:
            logits, memory = follow(_unread(process, x, read, place), cond, memory)
            here, read = Tokens.of(logits[:, -1:]), place + 1
            belief = Next(here, x, torch.tensor([place]), process.mask)
        x = put(process, x, torch.tensor([place]), here.quantile(u[:, place : place + 1], temperature, top_k, top_p))
        yield Step(index, t, s if index + 1 < len(places) else torch.zeros_like(s), x, belief)


@dataclass(frozen=True, slots=True)
class Next:
    """What is believed of the tokens at some positions, and what shows elsewhere."""

    here: Tokens
    """Of (B, m, K)."""
    x: Tensor
    """(B, L) int64."""
    places: Tensor
    """(m,) int64."""
    mask: int

    @property
    def preview(self) -> Tensor:
        """x with the likeliest tokens at those positions, where nothing shows there: (B, L)."""
        return _where(self.x == self.mask, self.x, self.places, self.here.preview)


def _unread(process: Any, x: Tensor, read: int, place: int) -> Tensor:
    """Of the beginning and the tokens before `place`, all but the first `read`: (B, place + 1 − read)."""
    begun = torch.cat([torch.full_like(x[:, :1], process.mask), x], 1)
    return begun[:, read : place + 1]


def put(process: Any, x: Tensor, places: Tensor, drawn: Tensor) -> Tensor:
    """x (B, L) with what was drawn (B, m) at those positions (m,), where they are hidden."""
    return _where(process.hidden(x), x, places, drawn)


def _where(hidden: Tensor, x: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    """x (B, L) with the tokens (B, m) at those places (m,), where it is hidden there, bool (B, L)."""
    x = x.clone()
    x[:, places] = torch.where(hidden[:, places], tokens, x[:, places])
    return x


def uniforms(x: Tensor, rng: Streams | None, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """One number for each position of x (B, L), whatever is hidden: a sample's do not depend on its batch."""
    check_draw(temperature, top_k, top_p)
    if temperature == 0:
        return torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    if rng is None:
        raise InputError(
            "this sampler draws tokens and needs the samples' random streams: pass rng, or temperature 0"
        )
    return rng.uniform(x.shape[1:], device=x.device)
