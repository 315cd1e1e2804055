"""Samplers that add noise, ours and the peers': how far their samples are from exact ones, at equal evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import peers
from benchmarks.candidates import exponential, karras, steps_within
from benchmarks.problems import F64, HIGH, mixture2d
from carrara.rng import Streams
from carrara.samplers import SAMPLERS

POINTS = 8192
REFERENCE = 2**18
DIRECTIONS = 32
BUDGETS = (18, 40, 100)
GRIDS: dict[str, Callable[[int], Tensor]] = {"karras 7": lambda n: karras(n, 7.0), "logsnr": exponential}
SETTINGS: dict[str, tuple[str, dict[str, float]]] = {
    "ancestral": ("ancestral", {}),
    "euler_maruyama": ("euler_maruyama", {}),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {}),
    "dpmpp_2m_sde, eta 0.5": ("dpmpp_2m_sde", {"eta": 0.5}),
    "churn": ("churn", {}),
    "churn, amount 10": ("churn", {"amount": 10.0}),
    "restart": ("restart", {}),
    "langevin": ("langevin", {}),
    "adams (adds none)": ("adams", {}),
}


class Bulk:
    """In place of one stream a sample: one generator for all, for only the law matters here."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = F64, device: object = "cpu") -> Tensor:
        return torch.randn((POINTS, *shape), dtype=dtype, generator=self.generator)


def exact(count: int, seed: int) -> Tensor:
    """(count, 2) exact samples of the plane's mixture."""
    mixture, generator = mixture2d().mixture, torch.Generator().manual_seed(seed)
    k = torch.multinomial(mixture.weights, count, replacement=True, generator=generator)
    noise = torch.randn((count, 2), dtype=F64, generator=generator)
    return mixture.means[k] + mixture.variances[k, None].sqrt() * noise


def projected(x: Tensor) -> Tensor:
    """The sorted projections on DIRECTIONS even directions: (DIRECTIONS, count)."""
    angle = math.pi * torch.arange(DIRECTIONS, dtype=F64) / DIRECTIONS
    return (torch.stack([angle.cos(), angle.sin()], 1) @ x.T).sort(dim=1).values


@cache
def quantiles() -> Tensor:
    """What POINTS samples should have for projections, by a much larger exact sample."""
    return projected(exact(REFERENCE, 0)).reshape(DIRECTIONS, POINTS, -1).mean(2)


def distance(x: Tensor) -> float:
    """The sliced Wasserstein-1 distance to the exact law."""
    return float((projected(x) - quantiles()).abs().mean())


def start() -> Tensor:
    """x at sigma = 80, exact."""
    return exact(POINTS, 1) + HIGH * Bulk(2).normal((2,))


def walked(name: str, options: dict[str, float], x: Tensor, sigmas: Tensor, rng: object) -> tuple[Tensor, int]:
    """(the samples, evaluations of the denoiser)."""
    problem, count = mixture2d(), 0

    class Counting:
        process = problem.denoiser.process

        def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Any:
            nonlocal count
            count += 1
            return problem.denoiser(x_t, t)

    for step in SAMPLERS[name].walk(Counting(), x, sigmas / HIGH, rng=rng, **options):
        x = step.x
    return x, count


def steps_fitting(name: str, options: dict[str, float], make: Callable[[int], Tensor], budget: int) -> int:
    """The largest number of steps whose evaluations fit, found by walking one point."""

    def fits(n: int) -> bool:
        return walked(name, options, torch.ones(1, 2, dtype=F64), make(n), Streams([0]))[1] <= budget

    return next(n for n in range(budget, 0, -1) if fits(n))


def noisy() -> dict[str, Any]:
    """The distances of each sampler with its better grid at each budget, and the floor: exact samples of the same number."""
    x, problem = start(), mixture2d()
    table: dict[str, dict[str, float]] = {}
    for label, (name, options) in SETTINGS.items():
        for n in BUDGETS:
            ends = [
                walked(name, options, x, make(steps_fitting(name, options, make, n)), Bulk(3))[0]
                for make in GRIDS.values()
            ]
            table.setdefault(f"ours: {label}", {})[str(n)] = _best(ends)
    for n in BUDGETS:
        for label, peer in peers.stochastic(drawing(3)).items():
            ends = [peer.walk(problem.denoise, x, make(steps_within(n, peer.evaluations))) for make in GRIDS.values()]
            table.setdefault(label, {})[str(n)] = _best(ends)
    floor = [distance(exact(POINTS, seed)) for seed in range(10, 20)]
    figures = {"points": POINTS, "floor": float(f"{sum(floor) / len(floor):.3g}"), "distance": table}
    show(figures)
    return figures


def drawing(seed: int) -> peers.Noise:
    """Noise like x, from one generator."""
    source = Bulk(seed)
    return lambda x: source.normal(x.shape[1:])


def _best(ends: list[Tensor]) -> float:
    """The least distance of those; infinite where none is finite."""
    found = [distance(x) for x in ends]
    return float(f"{min(value if math.isfinite(value) else math.inf for value in found):.3g}")


def show(figures: dict[str, Any]) -> None:
    """The table, best at the largest budget first."""
    table = Table(
        title=f"samplers that add noise: sliced Wasserstein distance, n = {POINTS}, exact samples {figures['floor']}"
    )
    for column in ("evaluations", *map(str, BUDGETS)):
        table.add_column(column)
    rows = cast(dict[str, dict[str, float]], figures["distance"])
    for label, row in sorted(rows.items(), key=lambda item: item[1][str(BUDGETS[-1])]):
        table.add_row(label, *(f"{row[str(n)]:.3g}" for n in BUDGETS))
    Console(width=120).print(table)
