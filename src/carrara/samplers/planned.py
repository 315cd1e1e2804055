"""The sampler of planned masks: round by round, each drawn given those before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from carrara.beliefs import Shown, Tokens
from carrara.denoisers import Cond, Denoiser, reading
from carrara.errors import InputError
from carrara.planning import Planned
from carrara.processes import TOKENS
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
    """The hidden tokens of each round of the process's plan together, a Step for each round; what shows stays.

    An exact draw from a denoiser that knows the plan. It reads each round once and remembers it (see `carrara.denoisers.Reading`);
    one that cannot is asked anew in each round. `temperature` 0 is greedy; for it and for `top_k` and `top_p` see
    `Tokens.quantile`. Of what is given it knows, in each round, what is of earlier ones. The times are not looked at: t is that of
    the share of rounds which is left. Raises InputError for a process without a plan.
    """
    process, read, memory = _of_plan(denoiser.process), reading(denoiser), None
    u = uniforms(x, rng, temperature, top_k, top_p)
    ends = process.when(1 - torch.arange(process.count + 1, dtype=torch.float64) / process.count)
    for index, places in enumerate(process.rounds):
        t, s, places = ends[index], ends[index + 1], places.to(x.device)
        belief: Shown
        if read is None:
            whole: Tokens = denoiser(x, t, cond)
            here, belief = Tokens(whole.logp[:, places]), whole
        else:
            logits, memory = read(x, cond, memory)
            here = Tokens.of(logits)
            belief = Next(here, x, places, process.mask)
        x = put(process, x, places, here.quantile(u[:, places], temperature, top_k, top_p))
        yield Step(index, t, s, x, belief)


def _of_plan(process: Any) -> Planned:
    """The process. Raises InputError where it has no plan."""
    if isinstance(of(TOKENS, process), Planned):
        return process  # type: ignore[no-any-return]
    raise InputError(
        f"planned shows tokens by the plan of a planned process, and {type(process).__name__} has none; choose process planned and "
        "network rounds in the recipe, or another sampler"
    )
