"""How a model is sampled: the settings, and the walk of one batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carrara.between import Between, check_walk
from carrara.conditions.base import Condition
from carrara.denoisers import Cond, Denoiser
from carrara.editing import Edit, check_threshold, thresholded, walked
from carrara.errors import InputError, nearest
from carrara.filling import Filled
from carrara.grids import check_tunable, given
from carrara.guidance import guided
from carrara.plugins import find
from carrara.processes import NUMBERS, ORDERED, PLANNED, TOKENS
from carrara.rng import Streams
from carrara.samplers import SAMPLERS, Sampler, Step, over
from carrara.schedules import Schedule
from carrara.times import GRIDS, TUNED, grid


@dataclass(frozen=True)
class Sampling:
    """Everything that decides a sample but the model, its seed, its condition, and what it changes (see `Edit`)."""

    sampler: str = "heun"
    """A name in `carrara.samplers.SAMPLERS`, or the dotted path of a generator, `my_lab.samplers:foo`."""
    steps: int = 20
    """Steps of the grid, at least 1."""
    times: Mapping[str, Any] = field(default_factory=lambda: {"kind": "uniform"})
    """The grid: its kind, or kind and options, see carrara.times; or {"kind": "tuned"}, found for the model, see carrara.grids."""
    guidance_scale: float = 1.0
    """1: no guidance; 0: the null condition; above 1: beyond the condition."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """The times between which guidance acts."""
    guidance_rescale: float = 0.0
    """How far the guided standard deviation is taken back, 0 to 1."""
    threshold: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """How the believed x0 is kept in bounds: its kind and options, see carrara.editing."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else the sampler takes, e.g. {"eta": 0.5}."""

    def __post_init__(self) -> None:
        known = inspect.signature(self.entry().walk).parameters
        own = set(known) - {"denoiser", "x", "times", "cond", "rng"}
        for name in self.options:
            if name not in own:
                allowed = nearest(name, own) if own else "it takes none"
                raise InputError(f"the sampler {self.sampler!r} has no option {name!r}: {allowed}")
        if isinstance(self.times, str):
            object.__setattr__(self, "times", {"kind": self.times})
        if isinstance(self.steps, bool) or not isinstance(self.steps, int | np.integer) or self.steps < 1:
            raise InputError(f"{self.steps!r} sampling steps were asked for; at least 1 is needed, a whole number")
        if isinstance(self.guidance_scale, str) or not math.isfinite(self.guidance_scale):
            raise InputError(f"guidance_scale is {self.guidance_scale!r}; it is a number: 1 is no guidance, 3 strong")
        check_threshold(self.threshold)

    def entry(self) -> Sampler:
        """The sampler. Raises InputError for an unknown name, with the nearest spelling."""
        found = find("sampler", self.sampler, SAMPLERS)
        return (
            found
            if isinstance(found, Sampler)
            else Sampler(found, order=1, made_of=(NUMBERS, TOKENS, ORDERED, PLANNED))
        )

    def changed(self, **changes: Any) -> Sampling:
        """These settings with those that are not None put in their place.

        Another sampler does not take over the options of this one.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        kept = self.options if given.get("sampler", self.sampler) == self.sampler else {}
        return replace(self, **{"options": kept, **given})

    def evaluations(self, strength: float = 1.0) -> int | None:
        """Evaluations of the denoiser a sample, a guided one being two of its network; None where it depends.

        `strength` is that of an Edit, which walks the last steps only.
        """
        per_step = self.entry().evaluations
        return None if per_step is None else walked(self.steps, strength) * per_step - (per_step - 1)

    def passes(self, strength: float = 1.0) -> int | None:
        """Evaluations of the network a sample, at most: twice those of the denoiser where guidance acts."""
        once = self.evaluations(strength)
        return None if once is None else once * (1 if self.guidance_scale == 1 else 2)

    def grid(self, schedule: Schedule) -> Tensor:
        """The times that are walked under this schedule: `steps` + 1, float64, falling from 1 to 0."""
        if not isinstance(self.times.get("kind"), str):
            raise InputError(f"times is {dict(self.times)}; it needs a kind: {', '.join(sorted([*GRIDS, TUNED]))}")
        if self.times["kind"] == TUNED:
            return given(self.times, self.steps)
        return grid(**{**self.times, "steps": self.steps, "schedule": schedule})

    def check_times(self, schedule: Schedule) -> None:
        """Raises InputError where there is no such grid under this schedule, or none can be tuned."""
        if self.times.get("kind") == TUNED:
            check_tunable(self.times, self.sampler, self.entry(), self.steps, schedule)
        else:
            self.grid(schedule)

    def untuned(self) -> Mapping[str, Any]:
        """The times, and where they are tuned a grid that costs nothing in their place: for weights that still change."""
        return {"kind": "logsnr"} if self.times.get("kind") == TUNED else self.times

    def check(self, denoiser: Denoiser, condition: Condition) -> None:
        """Raises InputError where this denoiser cannot be walked with this condition, before anything is computed."""
        self.entry().check(self.sampler, denoiser.process)
        self.check_times(denoiser.process.schedule)
        self.guide(denoiser, condition.null(1))

    def check_between(self, process: Any) -> None:
        """Raises InputError where samples between others would not be like them: see carrara.between."""
        still = [name for name, entry in over(NUMBERS).items() if not entry.stochastic]
        check_walk(process, self.sampler, self.entry().stochastic, self.options, still)

    def path(self, schedule: Schedule, edit: Edit | Between | None = None) -> Tensor:
        """The times that are walked, float64, falling to 0: the whole grid, or its end where a start is changed."""
        times = self.grid(schedule)
        if (
            isinstance(edit, Edit)
            and edit.made is None
            and edit.strength < 1
            and walked(self.steps, edit.strength) == self.steps
        ):
            raise InputError(
                f"with a strength of {edit.strength:g}, {self.steps} of {self.steps} steps are walked, and nothing is left of the "
                "start; give more steps, or a mask that says what is made"
            )
        return times if edit is None else edit.path(times)

    def begin(self, process: Any, shape: Sequence[int], rng: Streams, edit: Edit | Between | None = None) -> Tensor:
        """The x (B, *shape) that the walk begins with, on the CPU: the prior, or a start with the noise of its time."""
        t = self.path(process.schedule, edit)[0]
        x: Tensor = process.prior(shape, rng) if edit is None else edit.begin(process, t, rng)
        return x

    def walk(
        self,
        denoiser: Denoiser,
        condition: Condition,
        shape: Sequence[int],
        cond: Cond | None,
        seeds: Sequence[int],
        edit: Edit | Between | None = None,
        exact: bool = True,
    ) -> Iterator[Step]:
        """The Steps of one batch of len(seeds) samples, each x0 of this shape, from the beginning to t = 0; exact: see `Filled`."""
        rng, process = Streams(seeds), denoiser.process
        self.entry().check(self.sampler, process)
        device = getattr(denoiser, "device", torch.device("cpu"))
        x = self.begin(process, shape, rng, edit).to(device)
        null = moved(condition.null(len(seeds)), device)
        whole = Filled(denoiser) if exact else denoiser
        asked: Denoiser = thresholded(self.guide(whole, null), **self.threshold)
        if edit is not None:
            asked, cond = edit.keep(asked, cond)
        times = self.path(process.schedule, edit)
        yield from self.entry().walk(asked, x, times, moved(cond, device), rng=rng, **self.options)

    def guide(self, denoiser: Denoiser, null: Cond | None) -> Denoiser:
        """The denoiser with these settings' guidance, itself where there is none."""
        if self.guidance_scale == 1:
            return denoiser
        if null is None:
            raise InputError(
                f"guidance_scale {self.guidance_scale:g} needs a conditional model; this one is unconditional"
            )
        return guided(
            denoiser, self.guidance_scale, null, interval=self.guidance_interval, rescale=self.guidance_rescale
        )


def moved(cond: Cond | None, device: torch.device) -> Cond | None:
    """The condition on that device."""
    return None if cond is None else {name: value.to(device) for name, value in cond.items()}


def part(cond: Cond | None, rows: slice) -> Cond | None:
    """Those rows of the condition."""
    return None if cond is None else {name: value[rows] for name, value in cond.items()}
