"""Our samplers and the grids, as they are judged beside the peers': the same budgets of evaluations, the same grids for both."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor

from benchmarks.peers import Peer, Walk
from benchmarks.problems import F64, HIGH, SCHEDULE, Problem
from carrara import times
from carrara.samplers import SAMPLERS

LOW = 0.002


def karras(n: int, rho: float) -> Tensor:
    """EDM's n sigmas from 80 to 0.002, and 0."""
    place = torch.linspace(0, 1, n, dtype=F64)
    return _to_zero((HIGH ** (1 / rho) + place * (LOW ** (1 / rho) - HIGH ** (1 / rho))) ** rho)


def exponential(n: int) -> Tensor:
    """n sigmas even in log sigma from 80 to 0.002, and 0: our grid logsnr."""
    return _to_zero(torch.linspace(math.log(HIGH), math.log(LOW), n, dtype=F64).exp())


def beta_sigmas(n: int) -> Tensor:
    """diffusers' `use_beta_sigmas`: the quantiles of Beta(0.6, 0.6), spread between 0.002 and 80."""
    place = torch.from_numpy(beta.ppf(1 - torch.linspace(0, 1, n, dtype=F64).numpy(), 0.6, 0.6))
    return _to_zero(LOW + place * (HIGH - LOW))


def logistic(n: int, mean: float, scale: float) -> Tensor:
    """Our grid logistic, as sigmas."""
    return HIGH * times.logistic(n, SCHEDULE, mean, scale)


def _to_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, torch.zeros(1, dtype=F64)])


OUR_GRIDS: dict[str, Callable[[int], Tensor]] = {
    "karras 5": partial(karras, rho=5.0),
    "karras 7": partial(karras, rho=7.0),
    "karras 10": partial(karras, rho=10.0),
    "logsnr": exponential,
    "logistic": partial(logistic, mean=-0.4, scale=1.2),
    "logistic, wide": partial(logistic, mean=-0.1, scale=1.4),
}
PEER_GRIDS: dict[str, Callable[[int], Tensor]] = {
    "karras 5": partial(karras, rho=5.0),
    "karras 7": partial(karras, rho=7.0),
    "karras 10": partial(karras, rho=10.0),
    "exponential": exponential,
    "beta": beta_sigmas,
}


def settings() -> dict[str, tuple[str, dict[str, Any]]]:
    """Our samplers that add no noise with the options that their documentation names: a label -> (name, options)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {
        name: (name, {}) for name in ("ddim", "heun", "dpmpp_2s", "dpmpp_2m", "dpmpp_3m")
    }
    for order in (2, 3, 4):
        found[f"lms {order}"] = ("lms", {"order": order})
        found[f"unipc {order}"] = ("unipc", {"order": order})
        for clock in ("logsnr", "angle"):
            found[f"deis {order} {clock}"] = ("deis", {"order": order, "clock": clock})
    for order in (2, 3, 4, 5):
        for quantity in ("x0", "eps"):
            for clock in ("logsnr", "ratio", "angle"):
                options = {"order": order, "quantity": quantity, "clock": clock}
                found[f"adams {order} {quantity} {clock}"] = ("adams", options)
    return found


def ours(problem: Problem) -> dict[str, Peer]:
    """Our samplers as the peers are called: by sigmas, from x at the first of them."""
    return {
        label: Peer(_walk(problem, name, options), SAMPLERS[name].evaluations or 1)
        for label, (name, options) in settings().items()
    }


def _walk(problem: Problem, name: str, options: dict[str, Any]) -> Walk:
    def walk(denoise: object, x: Tensor, sigmas: Tensor) -> Tensor:
        return end(problem, name, options, x, sigmas / HIGH)

    return walk


def end(problem: Problem, name: str, options: dict[str, Any], x: Tensor, times: Tensor) -> Tensor:
    """x at the end of our sampler's walk along these times."""
    assert problem.denoiser.process.schedule is SCHEDULE
    for step in SAMPLERS[name].walk(problem.denoiser, x, times, rng=None, **options):
        x = step.x
    return x


def steps_within(budget: int, evaluations: int) -> int:
    """The largest number of steps that fits: all take `evaluations` but the last, which takes one."""
    return (budget - 1) // evaluations + 1
