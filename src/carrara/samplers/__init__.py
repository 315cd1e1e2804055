"""Samplers: pure generators over Steps.

    sampler(denoiser, x, times, cond, *, rng) -> Iterator[Step]

A sampler walks the pairs of neighbours in `times`, asks the denoiser for its belief, and yields a Step after each. It keeps
what it must remember in local variables, so any number may run side by side; progress bars, previews, films and
cancelling belong to whoever iterates.

To add one, write such a generator and give it an entry here that declares its order: the laws find it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from carrara.samplers.ancestral import ancestral, ddim
from carrara.samplers.multistep import dpmpp_2m, exponential
from carrara.samplers.ode import euler, heun
from carrara.samplers.step import Step, pairs


@dataclass(frozen=True)
class Sampler:
    """A sampler and what it declares of itself."""

    walk: Callable[..., Iterator[Step]]
    """The generator."""
    order: int
    """The order of convergence: of the path where no noise is added, of the law's moments where it is."""
    evaluations: int = 1
    """Evaluations of the denoiser a step."""
    stochastic: bool = False
    """Whether noise is added on the way."""


SAMPLERS: dict[str, Sampler] = {
    "ancestral": Sampler(ancestral, order=1, stochastic=True),
    "ddim": Sampler(ddim, order=1),
    "euler": Sampler(euler, order=1),
    "heun": Sampler(heun, order=2, evaluations=2),
    "dpmpp_2m": Sampler(dpmpp_2m, order=2),
}

__all__ = [
    "SAMPLERS",
    "Sampler",
    "Step",
    "ancestral",
    "ddim",
    "dpmpp_2m",
    "euler",
    "exponential",
    "heun",
    "pairs",
]
