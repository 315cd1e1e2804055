"""Samplers of masked tokens in the order that chance gives: what is hidden is shown at the times of the process itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.beliefs import Tokens
from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.processes import PLANNED, TOKENS
from carrara.rng import Streams
from carrara.samplers.step import Step, of, pairs


@torch.no_grad()
def cached(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    temperature: float = 1.0,
) -> Iterator[Step]:
    """`ancestral`, which asks only for the samples in which a token has shown since they were last asked for.

    However fine the grid, a sample of L tokens is asked for at most L times. A network that is not told the time believes the
    same of the same x_t, so the samples are `ancestral`'s. Told it, and under a guidance interval, it is believed as of the time of
    the last change.

    Source: Masked Diffusion Models are Secretly Time-Agnostic Masked Models, Zheng et al., 2024; Sahoo et al., 2024.
    """
    process = of(TOKENS, denoiser.process, PLANNED)
    belief: Tokens | None = None
    changed = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for index, t, s in pairs(times):
        if belief is None or changed.all():
            belief = denoiser(x, t, cond)
        elif changed.any():
            belief = belief.put(changed, denoiser(x[changed], t, _rows(cond, changed)))
        assert belief is not None
        before, x = x, process.step(x, belief, t, s, rng, temperature=temperature)
        changed = (x != before).flatten(1).any(1)
        yield Step(index, t, s, x, belief)


@torch.no_grad()
def first_hitting(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    *,
    rng: Streams | None,
    temperature: float = 1.0,
) -> Iterator[Step]:
    """Each token at the very time at which it shows: one token an evaluation, without the error of a grid.

    Of n tokens that are hidden at t, the next shows at the largest of n independent times, sigma(s) = sigma(t) u^{1/n}, and
    each of them is it with the same probability. Of the grid only the first time is looked at: the walk begins there, and ends
    when every sample is whole, in one step for each token. A Step's t and s are the latest of the batch's.

    Source: Zheng et al., 2024.
    """
    process = of(TOKENS, denoiser.process)
    if rng is None:
        raise InputError("first_hitting draws times and tokens and needs the samples' random streams: pass rng")
    hidden = process.hidden(x)
    t = times[0].expand(len(x))
    # Where nothing is hidden, one Step is made that changes nothing.
    for index in range(max(1, int(hidden.sum(1).max()))):
        u = rng.uniform((3,))
        count = hidden.sum(1).cpu()
        s = process.when(process.schedule.sigma(t) * u[:, 0] ** (1 / count.clamp(min=1)))
        s = torch.where(count > 1, s, 0.0)
        belief = denoiser(x, torch.where(count > 0, t, times[0]), cond)
        shown = _one_of(hidden, u[:, 1].to(x.device))
        drawn = belief.quantile(u[:, 2:].to(x.device).expand(x.shape), temperature, where=shown)
        x, hidden = torch.where(shown, drawn, x), hidden & ~shown
        yield Step(index, t.max(), s.max(), x, belief)
        t = s


def _one_of(places: Tensor, u: Tensor) -> Tensor:
    """One of each sample's places (B, L) that u (B,) in [0, 1) picks, all alike: bool (B, L), none where there are none."""
    rank = (u * places.sum(1)).long()
    return places & (places.cumsum(1) == rank[:, None] + 1)


def _rows(cond: Cond | None, rows: Tensor) -> Cond | None:
    return None if cond is None else {name: value[rows.to(value.device)] for name, value in cond.items()}
