"""What a sampler's step costs apart from the network, ours beside diffusers'."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import peers
from carrara.beliefs import Point
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.samplers import SAMPLERS
from carrara.schedules import LinearBeta
from carrara.times import grid

SHAPE = (1, 3, 32, 32)
STEPS = 20
REPEATS = 41
BOTH: dict[str, tuple[str, dict[str, Any]]] = {
    "ancestral": ("DDPM", {"timestep_spacing": "trailing"}),
    "ddim": ("DDIM", {"timestep_spacing": "trailing"}),
    "euler": ("EulerDiscrete", {}),
    "euler_ancestral": ("EulerAncestralDiscrete", {}),
    "heun": ("HeunDiscrete", {}),
    "lms": ("LMSDiscrete", {}),
    "deis": ("DEISMultistep", {"solver_order": 3}),
    "dpmpp_2s": ("DPMSolverSinglestep", {"solver_order": 2}),
    "dpmpp_2m": ("DPMSolverMultistep", {"solver_order": 2}),
    "dpmpp_3m": ("DPMSolverMultistep", {"solver_order": 3}),
    "dpmpp_2m_sde": ("DPMSolverMultistep", {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistep", {"solver_order": 3}),
}
"""Samplers that both have: ours -> diffusers'."""


class Held:
    """A denoiser that believes the same whatever it sees, and counts how often it is asked."""

    process = Gaussian(LinearBeta())

    def __init__(self) -> None:
        self.belief, self.asked = Point(torch.full(SHAPE, 0.5)), 0

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        self.asked += 1
        return self.belief


def our_walk(name: str) -> Iterator[float]:
    """Microseconds of a step an evaluation, one walk after the other: the whole walk, reading the grid's levels included."""
    times, x = grid("trailing", STEPS, LinearBeta()), torch.ones(SHAPE)

    def walk(denoiser: Held) -> None:
        for _ in SAMPLERS[name].walk(denoiser, x, times, rng=Streams([0])):
            pass

    while True:
        denoiser = Held()
        yield timed(partial(walk, denoiser)) / denoiser.asked


def their_walk(name: str, options: dict[str, Any]) -> Iterator[float]:
    """The same of diffusers: `step` alone; its own preparation (`set_timesteps`) is not counted."""
    made = getattr(peers._diffusers(), f"{name}Scheduler")(**options)
    eps, generator = torch.full(SHAPE, 0.5), torch.Generator().manual_seed(0)
    draws = (
        {"generator": generator} if name in ("DDPM", "EulerAncestralDiscrete") or "algorithm_type" in options else {}
    )

    def walk() -> None:
        x = torch.ones(SHAPE)
        for t in made.timesteps:
            x = made.step(eps, t, x, **draws).prev_sample

    while True:
        made.set_timesteps(STEPS)
        made.is_scale_input_called = True
        yield timed(walk) / len(made.timesteps)


def timed(walk: Callable[[], object]) -> float:
    """Microseconds."""
    begun = time.perf_counter()
    walk()
    return 1e6 * (time.perf_counter() - begun)


def step_us() -> dict[str, list[float]]:
    """{sampler: [ours, diffusers', ours / diffusers']}: medians of REPEATS walks of STEPS steps, turn by turn."""
    found = {}
    for name, (peer, options) in BOTH.items():
        turns = list(zip(range(REPEATS), our_walk(name), their_walk(peer, options), strict=False))
        mine, theirs = (statistics.median(turn[side] for turn in turns[1:]) for side in (1, 2))
        found[name] = [round(mine, 1), round(theirs, 1), round(mine / theirs, 3)]
    show(found)
    return found


def show(found: dict[str, list[float]]) -> None:
    """The table."""
    table = Table(title=f"microseconds of a step, {REPEATS - 1} walks of {STEPS} steps, x {SHAPE}")
    for column in ("sampler", "ours", "diffusers'", "ratio"):
        table.add_column(column)
    for name, row in found.items():
        table.add_row(name, *map(str, row))
    Console().print(table)
