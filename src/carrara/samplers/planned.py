"""The sampler of planned masks: round by round, each drawn given those before it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from carrara.beliefs import Shown, Tokens
from carrara.denoisers import Cond, Denoiser, reading
from carrara.processes import PLANNED
from carrara.rng import Streams
from carrara.samplers.left_to_right import Next, put, uniforms
from carrara.samplers.step import Step, of


@torch.no_grad()
def planned(
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
    """The hidden tokens of each round of the process's plan together, a Step for each round that has any; what shows stays.

    An exact draw from a denoiser that knows the plan. It reads each round once and remembers it (see `carrara.denoisers.Reading`);
    one that cannot is asked anew in each round. `temperature` 0 is greedy; for it and for `top_k` and `top_p` see
    `Tokens.quantile`. Of what is given it knows, in each round, what is of earlier ones. The times are not looked at: t is that of
    the share of rounds which is left.
    """
    process, read, memory, index = of(PLANNED, denoiser.process), reading(denoiser), None, 0
    u = uniforms(x, rng, temperature, top_k, top_p)
    ends = process.when(1 - torch.arange(process.count + 1, dtype=torch.float64) / process.count)
    # Where nothing is hidden, one Step is made that changes nothing.
    made = process.round[process.hidden(x).any(0).cpu()].unique().tolist() or [process.count - 1]
    for r, places in enumerate(process.rounds[: made[-1] + 1]):
        places = places.to(x.device)
        if read is not None:
            logits, memory = read(x, cond, memory)
        if r not in made:
            continue
        belief: Shown
        if read is None:
            whole: Tokens = denoiser(x, ends[r], cond)
            here, belief = Tokens(whole.logp[:, places]), whole
        else:
            here = Tokens.of(logits)
            belief = Next(here, x, places, process.mask)
        x = put(process, x, places, here.quantile(u[:, places], temperature, top_k, top_p))
        yield Step(index, ends[r], ends[r + 1] if r < made[-1] else ends[-1], x, belief)
        index += 1
