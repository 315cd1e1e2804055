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

from carrara.samplers.adaptive import adaptive
from carrara.samplers.ancestral import ancestral, consistency, ddim
from carrara.samplers.dpmpp import dpmpp_2m, dpmpp_2m_sde, dpmpp_2s
from carrara.samplers.multistep import adams, deis, dpmpp_3m, lms, multistep, unipc
from carrara.samplers.ode import euler, heun
from carrara.samplers.step import Step, pairs
from carrara.samplers.stochastic import churn, euler_ancestral, euler_maruyama, langevin, restart


@dataclass(frozen=True)
class Sampler:
    """A sampler and what it declares of itself."""

    walk: Callable[..., Iterator[Step]]
    """The generator."""
    order: int
    """The order of convergence: of the path where no noise is added, of the law's moments where it is; 0: none is claimed."""
    evaluations: int | None = 1
    """Evaluations of the denoiser a step, of which the one that ends at t = 0 may do with fewer; None: it depends."""
    stochastic: bool = False
    """Whether noise is added on the way."""
    returns: bool = False
    """Whether it goes back to more noise on the way, so that the belief of a step is not the one held at its t."""


SAMPLERS: dict[str, Sampler] = {
    "ancestral": Sampler(ancestral, order=1, stochastic=True),
    "consistency": Sampler(consistency, order=0, stochastic=True),
    "ddim": Sampler(ddim, order=1),
    "euler": Sampler(euler, order=1),
    "euler_ancestral": Sampler(euler_ancestral, order=1, stochastic=True),
    "euler_maruyama": Sampler(euler_maruyama, order=1, stochastic=True),
    "heun": Sampler(heun, order=2, evaluations=2),
    "dpmpp_2s": Sampler(dpmpp_2s, order=2, evaluations=2),
    "dpmpp_2m": Sampler(dpmpp_2m, order=2),
    "dpmpp_3m": Sampler(dpmpp_3m, order=3),
    "dpmpp_2m_sde": Sampler(dpmpp_2m_sde, order=2, stochastic=True),
    "lms": Sampler(lms, order=4),
    "deis": Sampler(deis, order=3),
    "unipc": Sampler(unipc, order=4),
    "adams": Sampler(adams, order=4),
    "churn": Sampler(churn, order=2, evaluations=2, stochastic=True, returns=True),
    "restart": Sampler(restart, order=2, evaluations=None, stochastic=True, returns=True),
    "langevin": Sampler(langevin, order=1, evaluations=2, stochastic=True),
    "adaptive": Sampler(adaptive, order=5, evaluations=None),
}

__all__ = [
    "SAMPLERS",
    "Sampler",
    "Step",
    "adams",
    "adaptive",
    "ancestral",
    "churn",
    "consistency",
    "ddim",
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2s",
    "dpmpp_3m",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "heun",
    "langevin",
    "lms",
    "multistep",
    "pairs",
    "restart",
    "unipc",
]
