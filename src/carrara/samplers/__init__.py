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
from typing import Any

from carrara.errors import InputError
from carrara.processes import NUMBERS, ORDERED, PLANNED, TOKENS
from carrara.samplers.adaptive import adaptive
from carrara.samplers.ancestral import ancestral, consistency, ddim
from carrara.samplers.confidence import confidence
from carrara.samplers.dpmpp import dpmpp_2m, dpmpp_2m_sde, dpmpp_2s
from carrara.samplers.left_to_right import left_to_right
from carrara.samplers.multistep import adams, deis, dpmpp_3m, lms, multistep, unipc
from carrara.samplers.ode import euler, heun
from carrara.samplers.planned import planned
from carrara.samplers.revealing import cached, first_hitting
from carrara.samplers.step import Step, of, pairs
from carrara.samplers.stochastic import churn, euler_ancestral, euler_maruyama, langevin, restart


@dataclass(frozen=True)
class Sampler:
    """A sampler and what it declares of itself."""

    walk: Callable[..., Iterator[Step]]
    """The generator."""
    order: int
    """The order of convergence: of the path where no noise is added, of the law's moments where it is, of the law of tokens.

    0: none is claimed, or there is no error that more steps would make smaller.
    """
    evaluations: int | None = 1
    """Evaluations of the denoiser a step, of which the one that ends at t = 0 may do with fewer; None: it depends."""
    stochastic: bool = False
    """Whether noise is added on the way."""
    returns: bool = False
    """Whether it goes back to more noise on the way, so that the belief of a step is not the one held at its t."""
    made_of: tuple[str, ...] = (NUMBERS,)
    """What the x0 of a process that it walks may be made of."""

    def check(self, name: str, process: Any) -> None:
        """Raises InputError where this sampler, called so, does not walk this process."""
        found = getattr(process, "made_of", NUMBERS)
        if found not in self.made_of:
            raise InputError(
                f"the sampler {name!r} walks {' and '.join(self.made_of)}, and this model makes {found}; "
                f"choose one of {', '.join(over(found))}"
            )


SAMPLERS: dict[str, Sampler] = {
    "ancestral": Sampler(ancestral, order=1, stochastic=True, made_of=(NUMBERS, TOKENS, PLANNED)),
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
    "cached": Sampler(cached, order=1, evaluations=None, stochastic=True, made_of=(TOKENS, PLANNED)),
    "confidence": Sampler(confidence, order=0, stochastic=True, made_of=(TOKENS,)),
    "first_hitting": Sampler(first_hitting, order=0, evaluations=None, stochastic=True, made_of=(TOKENS,)),
    "left_to_right": Sampler(left_to_right, order=0, evaluations=None, stochastic=True, made_of=(TOKENS, ORDERED)),
    "planned": Sampler(planned, order=0, evaluations=None, stochastic=True, made_of=(PLANNED,)),
}


def over(made_of: str) -> dict[str, Sampler]:
    """The samplers that walk NUMBERS, TOKENS, ORDERED or PLANNED, by name."""
    return {name: sampler for name, sampler in SAMPLERS.items() if made_of in sampler.made_of}


__all__ = [
    "SAMPLERS",
    "Sampler",
    "Step",
    "adams",
    "adaptive",
    "ancestral",
    "cached",
    "churn",
    "confidence",
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
    "first_hitting",
    "heun",
    "langevin",
    "left_to_right",
    "lms",
    "multistep",
    "of",
    "over",
    "pairs",
    "planned",
    "restart",
    "unipc",
]
