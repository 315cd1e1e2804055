"""Tuned grids: the times at which a sampler, on this denoiser and with so many steps, ends nearest to the ODE's own end.

A deterministic sampler approximates the probability-flow ODE. Its end point after a fine walk is known to any precision, so the
error of a coarse walk can be measured, and its grid is what that error depends on. Which grid is best depends on the denoiser, on
the sampler and on the number of steps; it does not depend on the sample much, so a grid found from some starting points serves
for others.

A grid's parameters c warp another one: with theta = atan(sigma / alpha) the noise angle, and its steps d_i > 0,

    share_i ∝ d_i exp(Σ_k c_k cos(π k (i + ½) / n)),      k = 1 … degree,      Σ share_i = theta(1)

which falls strictly from 1 to 0 for every c; a low degree bends the grid, degree n − 1 moves every time by itself. The
residuals are the end points' errors, the parameters few: least squares by Levenberg and Marquardt's method, slopes by
differences. Some of the points are held out: of all grids on the way the one that is best on these is taken,
so more freedom than the points can pay for does no harm.

Sources: Levenberg, 1944; Marquardt, 1963; Moré, 1978. That grids can be found for a model: AYS, Sabour et al., 2024, by
bounding the error of an SDE's steps; here the sampler's own error is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carrara.clock import clock_of, time_at
from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError, NonFinite
from carrara.rng import Streams
from carrara.samplers import Step, adams
from carrara.schedules import Schedule
from carrara.times import grid, karras, logistic, logsnr, shifted, uniform

Walk = Callable[..., Iterator[Step]]
"""A sampler, called as walk(denoiser, x, times, cond, rng=…); options are bound by functools.partial."""

Start = Callable[[int, Schedule], Tensor]

STARTS: dict[str, Start] = {
    "uniform": uniform,
    "shifted": shifted,
    "karras": karras,
    "karras:ratio_min=0.02": lambda n, schedule: karras(n, schedule, ratio_min=0.02),
    "logistic": logistic,
    "logsnr": logsnr,
    "logsnr:ratio_min=0.02": lambda n, schedule: logsnr(n, schedule, ratio_min=0.02),
}
"""The untuned grids that are tried; the best two are warped."""

BEGINS = 2
DEGREE = 5
"""Of the warp that comes before the one that is free."""
FINE = 128
"""Steps of the walk that is taken for the exact one."""
NUDGE = 0.01
"""By how much a parameter is changed to see its slope."""
SMALLEST = 1e-9
"""The least share of the noise angle that a step has, far below what matters, so that times never meet."""
GAIN = 0.01
"""A step of the search that lowers the error by less than this share is taken for the last."""


@dataclass(frozen=True)
class Tuned:
    """A grid that was found, and how good it is on the points that were held out."""

    times: Tensor
    """(steps + 1,) float64, strictly falling from 1 to 0."""
    error: float
    """The root mean square error of x_0, over points and their numbers, on the held-out points."""
    untuned: float
    """The same of the best untuned grid, which is called `start`; never less than `error`."""
    start: str
    walks: int
    """Coarse walks of all the points."""
    evaluations: int
    """Evaluations of the denoiser, each of one point at one time, the fine walk's included."""


def tune(
    denoiser: Denoiser,
    x: Tensor,
    steps: int,
    walk: Walk,
    cond: Cond | None = None,
    *,
    evaluations: int | None = None,
    held: int | None = None,
    fine: int = FINE,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """The grid of `steps` steps on which `walk` ends nearest to the ODE's end, from the starting points x (B, *) at t = 1.

    The last `held` points (None: a quarter) choose between the grids that the others lead to. The exact end is that of a walk of
    `fine` steps, or of 4 times `steps` where these are more, of order 6. At most so many `evaluations` of the denoiser are
    spent, each of one point (None: 200 walks' worth); the fine walk and the untuned grids are walked in any case. The same
    arguments give the same grid; x in float64 lets errors below float32's rounding count. `progress` is called with
    (done, total) evaluations.
    Raises InputError for no points to tune on or to hold out, a sampler that draws noise, or steps that the schedule does
    not have; NonFinite where the fine walk is not finite.
    """
    schedule = denoiser.process.schedule
    grid("uniform", steps, schedule)  # It says what is wrong with the number of steps.
    held = max(1, len(x) // 4) if held is None else held
    if not 0 < held < len(x):
        raise InputError(
            f"{len(x)} points were given to tune a grid and {held} of them held out; there must be some of both"
        )
    judge = Judge(denoiser, x, walk, cond, len(x) - held, max(fine, 4 * steps), evaluations, progress)
    starts, found = search(judge, steps, schedule)
    judge.count.close()
    best, start = min(found, key=lambda place: place.held), min(starts, key=lambda name: starts[name].held)
    return Tuned(best.times, best.held, starts[start].held, start, judge.walks, judge.count.done)


def tune_among(
    denoiser: Denoiser, x: Tensor, steps: int, walks: Mapping[str, Walk], cond: Cond | None = None, **options: Any
) -> tuple[str, Tuned]:
    """(name, its grid) of the sampler that its tuned grid brings nearest to the ODE's end on the held-out points.

    `options` go to `tune`, for each sampler anew. Raises InputError for no samplers at all.
    """
    if not walks:
        raise InputError("no samplers were given to choose among; name at least one")
    tuned = {name: tune(denoiser, x, steps, walk, cond, **options) for name, walk in walks.items()}
    return min(tuned.items(), key=lambda item: item[1].error)


# ------------------------------------------------------------------------------------------------------------ the family


def shares(times: Tensor, schedule: Schedule) -> Tensor:
    """How much the noise angle falls in each step of the grid, (n,), positive."""
    return -clock_of(schedule, times).exp().diff()


def warped(base: Tensor, c: Tensor, schedule: Schedule) -> Tensor:
    """The times (n + 1,) whose shares (n,) of the angle are `base` times exp of the cosines with the parameters c (k,), k < n."""
    share = (base.log() + waves(len(base), len(c)) @ c).softmax(0).clamp(min=SMALLEST)
    share = share / share.sum() * base.sum()
    angle = share.flip(0).cumsum(0).flip(0)
    times = torch.cat([time_at(schedule, angle.log()), angle.new_zeros(1)])
    times[0] = 1
    return times


def waves(n: int, degree: int) -> Tensor:
    """cos(π k (i + ½) / n) for the steps i = 0 … n − 1 and k = 1 … degree: (n, degree), no two alike and none constant."""
    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.cos(math.pi * place[:, None] * torch.arange(1, degree + 1, dtype=torch.float64))


# ------------------------------------------------------------------------------------------------------------- the judge


class Spent(Exception):
    """No evaluations are left for another walk."""


class Count:
    """A denoiser that counts its evaluations, a point and a time each, and reports them."""

    def __init__(self, denoiser: Denoiser, progress: Callable[[int, int], None] | None) -> None:
        self.denoiser, self.process, self.progress = denoiser, denoiser.process, progress
        self.done, self.total = 0, 0

    def __call__(self, x_t: Tensor, t: Tensor, cond: Cond | None = None) -> Any:
        belief = self.denoiser(x_t, t, cond)
        self.done += len(x_t)
        self.tell()
        return belief

    def tell(self) -> None:
        if self.progress is not None and self.total:
            self.progress(min(self.done, self.total), self.total)

    def close(self) -> None:
        """What is not spent will not be."""
        self.total = self.done
        self.tell()


class NoNoise(Streams):
    """Streams that refuse: where noise is drawn on the way there is no path to compare with."""

    def normal(self, *args: Any, **options: Any) -> Tensor:
        raise InputError(
            "this sampler draws noise on its way, so it has no one end that a grid could be tuned for; use another grid, "
            "or a sampler that draws none, such as adams"
        )

    uniform = normal


class Judge:
    """The error of a coarse walk: its end points minus those of the fine one."""

    def __init__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        walk: Walk,
        cond: Cond | None,
        tuned: int,
        fine: int,
        evaluations: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.x, self.walk, self.cond, self.tuned = x, walk, cond, tuned
        self.count = Count(denoiser, progress)
        self.walks, self.cost = 0, 0
        self.limit = evaluations
        self.count.total = evaluations or 0
        self.exact = _end(adams(self.count, x, logsnr(fine, denoiser.process.schedule), cond, order=5))
        if not bool(self.exact.isfinite().all()):
            raise NonFinite(
                "the fine walk that a grid is tuned against gave NaN or infinity; there is no end to compare with"
            )

    def error(self, times: Tensor) -> Tensor:
        """The error (B, numbers) of each point's end, float64 on the CPU. Raises Spent where the evaluations would not do."""
        before = self.count.done
        if self.limit is not None and self.walks >= len(STARTS) and before + self.cost > self.limit:
            raise Spent
        end = _end(self.walk(self.count, self.x, times, self.cond, rng=NoNoise(range(len(self.x)))))
        self.walks, self.cost = self.walks + 1, self.count.done - before
        if self.limit is None:
            self.limit = self.count.total = before + 200 * self.cost
        error = (end - self.exact).flatten(1).double().cpu()
        # A walk that has run away is bad, and no more than that.
        return error.nan_to_num(nan=BAD, posinf=BAD, neginf=-BAD).clamp(-BAD, BAD)

    def place(self, times: Tensor) -> Place:
        """What is known of a grid."""
        error = self.error(times)
        return Place(times, error[: self.tuned].flatten(), rms(error[self.tuned :]))


BAD = 1e3


@dataclass(frozen=True)
class Place:
    """A grid, its residuals on the points it is tuned on, and its error on those held out."""

    times: Tensor
    residual: Tensor
    held: float

    @property
    def error(self) -> float:
        return rms(self.residual)


def rms(error: Tensor) -> float:
    """The root of the mean square."""
    return float(error.square().mean().sqrt())


def _end(steps: Iterator[Step]) -> Tensor:
    for step in steps:
        x = step.x
    return x


# ------------------------------------------------------------------------------------------------------------ the search


class Warp:
    """Grids made of one grid by `degree` parameters c."""

    def __init__(self, judge: Judge, times: Tensor, degree: int, schedule: Schedule) -> None:
        self.judge, self.base, self.schedule = judge, shares(times, schedule), schedule
        self.degree = min(degree, len(self.base) - 1)

    def place(self, c: Tensor) -> Place:
        """What is known of the grid with the parameters c."""
        return self.judge.place(warped(self.base, c, self.schedule))

    def slopes(self, c: Tensor, here: Place) -> Tensor:
        """d residual / d c, (residuals, degree), by differences: a walk a parameter."""
        nudges = NUDGE * torch.eye(self.degree, dtype=torch.float64)
        return torch.stack([(self.place(c + nudge).residual - here.residual) / NUDGE for nudge in nudges], dim=1)


def search(judge: Judge, steps: int, schedule: Schedule) -> tuple[dict[str, Place], list[Place]]:
    """(the untuned grids by name, all grids stood on): the best two starts are bent, then the best of all is set free."""
    starts = {name: judge.place(make(steps, schedule)) for name, make in STARTS.items()}
    found = list(starts.values())
    try:
        for start in sorted(starts.values(), key=lambda place: place.error)[:BEGINS]:
            for place in descent(Warp(judge, start.times, DEGREE, schedule), start):
                found.append(place)  # noqa: PERF402  # What was found counts, though the search should end in Spent.
        best = min(found, key=lambda place: place.error)
        for place in descent(Warp(judge, best.times, steps - 1, schedule), best):
            found.append(place)  # noqa: PERF402
    except Spent:
        pass
    return starts, found


def descent(warp: Warp, here: Place) -> Iterator[Place]:
    """The grids on the way down from the warp's own, c = 0, each with less error than the one before.

    Levenberg and Marquardt's method with Moré's scaling, and the residuals' own curvature learned on the way: of a sampler of
    low order much error remains on the best of grids, and there it counts.
    """
    if warp.degree == 0 or here.error == 0:
        return
    c, damping = torch.zeros(warp.degree, dtype=torch.float64), 0.01
    slopes = warp.slopes(c, here)
    # A change of c by 1 is thought to move an error by its own size, wherever slopes happen to vanish.
    scale = slopes.square().sum(0).clamp(min=float(here.residual.square().sum()))
    curvature = torch.zeros((warp.degree, warp.degree), dtype=torch.float64)
    while damping < 1e4:
        step = damped(slopes.T @ slopes + curvature, slopes.T @ here.residual, scale, damping)
        there = warp.place(c + step)
        gain = 1 - there.error / here.error
        if gain <= 0:
            damping *= 6
            continue
        yield there
        if gain < GAIN and damping < 1:  # A short step may gain little anywhere; a free one only at the bottom.
            return
        before, slopes = slopes, warp.slopes(c + step, there)
        curvature = learned(curvature, step, before, slopes, here.residual, there.residual)
        c, here, damping = c + step, there, damping / 5
        scale = torch.maximum(scale, slopes.square().sum(0))


def damped(hessian: Tensor, gradient: Tensor, scale: Tensor, damping: float) -> Tensor:
    """The step −(|H| + damping · diag(scale))⁻¹ g (k,), no number of it beyond ±1; |H| has the sizes of H's eigenvalues.

    They are taken where scale is 1. So a direction in which the error bends down is gone down, and not up to the saddle.
    """
    root = (scale + 1e-12 * scale.max() + torch.finfo(torch.float64).tiny).sqrt()
    values, axes = torch.linalg.eigh(hessian / torch.outer(root, root))
    step: Tensor = -(axes @ ((axes.T @ (gradient / root)) / (values.abs() + damping))) / root
    return step.clamp(-1, 1)


def learned(curvature: Tensor, step: Tensor, before: Tensor, after: Tensor, was: Tensor, now: Tensor) -> Tensor:
    """Σ_i r_i ∇² r_i, (k, k), from the slopes (m, k) and residuals (m,) at both ends of a step: the secant that it must obey.

    Source: An Adaptive Nonlinear Least-Squares Algorithm, Dennis, Gay & Welsch, 1981, section 3.
    """
    bend, turn = after.T @ now - before.T @ now, after.T @ now - before.T @ was
    along = turn @ step
    if along <= 0:
        return curvature
    known = step @ curvature @ step
    curvature = curvature * min(1.0, float((step @ bend).abs() / known.abs())) if known != 0 else curvature
    missing = bend - curvature @ step
    update = (torch.outer(missing, turn) + torch.outer(turn, missing)) / along
    return curvature + update - (step @ missing) * torch.outer(turn, turn) / along**2
