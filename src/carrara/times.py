"""Times: which t a model is trained at, and the grid a sampler walks.

Training draws u in (0, 1) and maps it through a quantile function, so that how the u are spread over a batch
(independently, or stratified) and which times they favour are separate choices.

A sampling grid is n + 1 times, from 1 strictly down to 0. A step goes from one entry to the next: the grid is the step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from carrara.errors import InputError, nearest
from carrara.rng import Streams, derive
from carrara.schedules import Schedule

# ---------------------------------------------------------------------------------------------------- training


def spread_uniforms(
    spread: Literal["independent", "stratified"], rng: Streams, seed: int, start: int, batch: int
) -> Tensor:
    """Uniform numbers (B,) in (0, 1), float64, for the images number start … of a run whose global batch has `batch` images.

    "independent": each from its own stream. "stratified": u = frac(u_batch + i / batch), i the place in the global batch:
    one uniform number a batch, its images evenly spaced, which lowers the variance of the loss.

    Source: Variational Diffusion Models, Kingma et al., 2021, appendix I.1.
    """
    own = rng.uniform()
    if spread == "independent":
        return own.clamp(min=2**-53)
    first = torch.Generator().manual_seed(derive(seed, start // batch, 1))
    shared = torch.rand((), generator=first, dtype=torch.float64)
    place = (start + torch.arange(len(rng), dtype=torch.float64)) % batch
    return ((shared + place / batch) % 1).clamp(min=2**-53)


class TrainTimes(nn.Module):
    """A distribution of training times; its buffers, if it learns, belong to the checkpoint."""

    def __init__(self, t_min: float = 1e-5) -> None:
        super().__init__()
        if not 0 < t_min < 1:
            raise InputError(f"t_min is {t_min}; it must lie strictly between 0 and 1")
        self.t_min = t_min

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The time below which a share u of the training times lies; shape of u, float64."""
        return u

    def draw(self, u: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """(t, factor) for u in (0, 1): times in [t_min, 1] and the factor that each loss is multiplied with."""
        t = self.quantile(u, schedule).clamp(self.t_min, 1)
        return t, torch.ones_like(t)

    def fixed(self, u: Tensor, schedule: Schedule) -> Tensor:
        """Times that never move, for held-out losses: the distribution's own, uniform where it learns."""
        return self.quantile(u, schedule).clamp(self.t_min, 1)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Learns from the losses (B,) of a global batch at the times t (B,); most distributions do not."""


class Uniform(TrainTimes):
    """t uniform on (0, 1]."""


class Discrete(TrainTimes):
    """t uniform on {1/T, …, 1}: DDPM's Algorithm 1."""

    def __init__(self, steps: int = 1000) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"steps is {steps}; a discrete grid of training times has 1 or more")
        self.steps = steps

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return (u * self.steps).ceil() / self.steps


class LogitNormal(TrainTimes):
    """t = sigmoid(mean + std · z), z standard normal: the middle of the path more often.

    Source: Scaling Rectified Flow Transformers, Esser et al., 2024, section 3.1.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


class LogNormal(TrainTimes):
    """log(sigma / alpha) normal with this mean and std: EDM's noise levels, under any schedule.

    Source: Karras et al., 2022, table 1.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        return schedule.inverse(-2 * (self.mean + self.std * torch.special.ndtri(u)))


class Importance(TrainTimes):
    """t drawn in proportion to the root mean square of the loss at t, each loss divided by its density.

    The expected loss is that of uniform times; its variance is less. `bins` equal cells of t, of which each keeps a running
    mean of squared losses; a share `floor` of the draws stays uniform.

    Source: Nichol & Dhariwal, 2021, section 3.3, with cells in place of T separate histories.
    """

    square: Tensor

    def __init__(self, bins: int = 64, floor: float = 0.1, memory: float = 0.99) -> None:
        super().__init__()
        if bins < 1 or not 0 < floor <= 1 or not 0 <= memory < 1:
            raise InputError("importance times need bins ≥ 1, 0 < floor ≤ 1 and 0 ≤ memory < 1")
        self.floor, self.memory = floor, memory
        self.register_buffer("square", torch.ones(bins, dtype=torch.float64))

    def density(self) -> Tensor:
        """The probability density of t in each cell, (bins,), mean 1."""
        root = self.square.clamp(min=1e-30).sqrt()
        return self.floor + (1 - self.floor) * root / root.mean()

    def quantile(self, u: Tensor, schedule: Schedule) -> Tensor:
        cell, inside = self._place(u)
        return (cell + inside) / len(self.square)

    def draw(self, u: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        t = self.quantile(u, schedule).clamp(self.t_min, 1)
        return t, 1 / self.density()[self._place(u)[0]]

    def update(self, t: Tensor, loss: Tensor) -> None:
        cell = (t * len(self.square)).long().clamp(max=len(self.square) - 1)
        count = torch.zeros_like(self.square).index_add_(0, cell, torch.ones_like(loss, dtype=torch.float64))
        total = torch.zeros_like(self.square).index_add_(0, cell, loss.double() ** 2)
        mean = torch.where(count > 0, total / count.clamp(min=1), self.square)
        self.square.lerp_(mean, 1 - self.memory)

    def fixed(self, u: Tensor, schedule: Schedule) -> Tensor:
        return u.clamp(self.t_min, 1)

    def _place(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The cell whose share of the draws u falls in, and how far into it, from 0 to 1."""
        density = self.density()
        edges = torch.cat([density.new_zeros(1), density.cumsum(0) / density.sum()])
        cell = (torch.searchsorted(edges, u, right=True) - 1).clamp(0, len(density) - 1)
        return cell, (u - edges[cell]) / (edges[cell + 1] - edges[cell])


TRAIN_TIMES: dict[str, type[TrainTimes]] = {
    "uniform": Uniform,
    "discrete": Discrete,
    "logit_normal": LogitNormal,
    "log_normal": LogNormal,
    "importance": Importance,
}

# ---------------------------------------------------------------------------------------------------- sampling


class Grid(Protocol):
    """n steps under a schedule -> n + 1 times, float64, strictly falling from 1 to 0."""

    def __call__(self, n: int, schedule: Schedule) -> Tensor: ...


def uniform(n: int, schedule: Schedule) -> Tensor:
    """1, 1 − 1/n, …, 0."""
    return torch.arange(n, -1, -1, dtype=torch.float64) / n


def trailing(n: int, schedule: Schedule) -> Tensor:
    """The uniform grid, on a discrete schedule moved to its nearest knots i/T; t = 1 always included.

    Source: Lin et al., 2024, table 2.
    """
    grid, steps = uniform(n, schedule), schedule.steps
    return grid if steps is None else (grid * steps).round() / steps


def shifted(n: int, schedule: Schedule, shift: float = 3.0) -> Tensor:
    """t′ = shift · t / (1 + (shift − 1) t) of the uniform grid: more steps at high noise where shift > 1.

    Source: Esser et al., 2024, eq. 23.
    """
    if not shift > 0:
        raise InputError(f"shift is {shift}; it must be positive (1 leaves the uniform grid)")
    t = uniform(n, schedule)
    return shift * t / (1 + (shift - 1) * t)


def karras(n: int, schedule: Schedule, rho: float = 7.0, ratio_min: float = 0.002, ratio_max: float = 80.0) -> Tensor:
    """EDM's grid: (sigma/alpha)^{1/rho} evenly spaced from ratio_max (or the schedule's own end) to ratio_min, then 0.

    Source: Karras et al., 2022, eq. 5.
    """
    high = min(ratio_max, _ratio_at_one(schedule))
    if not 0 < ratio_min < high or not rho > 0:
        raise InputError(
            f"the Karras grid needs rho > 0 and 0 < ratio_min < {high:g}; given rho {rho}, ratio_min {ratio_min}"
        )
    place = torch.linspace(0, 1, n, dtype=torch.float64)
    ratio = torch.lerp(_scalar(high ** (1 / rho)), _scalar(ratio_min ** (1 / rho)), place) ** rho
    return _from_logsnr(-2 * ratio.log(), schedule)


def logsnr(n: int, schedule: Schedule, ratio_min: float = 0.002, ratio_max: float = 80.0) -> Tensor:
    """logsnr evenly spaced from sigma/alpha = ratio_max (or the schedule's own end) to ratio_min, then 0.

    Source: DPM-Solver, Lu et al., 2022, section 3.3.
    """
    high = min(ratio_max, _ratio_at_one(schedule))
    if not 0 < ratio_min < high:
        raise InputError(f"the logsnr grid needs 0 < ratio_min < {high:g}; given {ratio_min}")
    return _from_logsnr(
        torch.linspace(-2 * math.log(high), -2 * math.log(ratio_min), n, dtype=torch.float64), schedule
    )


def logistic(n: int, schedule: Schedule, mean: float = -0.4, scale: float = 1.2) -> Tensor:
    """sigma/alpha = e^mean (u / (1 − u))^scale, u evenly spaced from where t = 1 is down to 0.

    These are the quantiles of a logistic law of log(sigma/alpha): steps are short where noise and data are of like size, where
    most is decided, and long at both ends, where x_t or the belief hardly tells anything new. With mean 0 and scale 1 it is flow
    matching's uniform grid under every schedule, with mean log(shift) the shifted one.

    Source: carrara's; mean and scale were fitted to exact denoisers of random Gaussian mixtures (docs/choose-a-sampler.md).
    """
    if not (scale > 0 and math.isfinite(mean) and math.isfinite(scale)):
        raise InputError(
            f"the logistic grid needs a finite mean and a scale above 0; given mean {mean}, scale {scale}"
        )
    ratio = _ratio_at_one(schedule)
    high = 1.0 if ratio == math.inf else 1 / (1 + math.exp((mean - math.log(ratio)) / scale))
    u = high * uniform(n, schedule)
    return _from_logsnr(-2 * (mean + scale * torch.logit(u[:-1])), schedule)


def _from_logsnr(levels: Tensor, schedule: Schedule) -> Tensor:
    """Times of n falling noise levels, the first moved to t = 1, where the prior is, and 0 put at the end."""
    grid = torch.cat([schedule.inverse(levels), levels.new_zeros(1)])
    grid[0] = 1
    return grid


def _ratio_at_one(schedule: Schedule) -> float:
    one = _scalar(1)
    alpha = schedule.alpha(one).item()
    return schedule.sigma(one).item() / alpha if alpha > 0 else math.inf


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


GRIDS: dict[str, Callable[..., Tensor]] = {
    "uniform": uniform,
    "trailing": trailing,
    "shifted": shifted,
    "karras": karras,
    "logsnr": logsnr,
    "logistic": logistic,
}


TUNED = "tuned"
"""The kind of a grid that is found for a model, see carrara.tuning; it is no function of steps and schedule alone."""


def falls(times: Tensor) -> bool:
    """Whether these are times to walk: (n + 1,) with n ≥ 1, strictly falling from 1 to 0."""
    ends = times.ndim == 1 and len(times) > 1 and times[0].item() == 1 and times[-1].item() == 0
    return ends and bool((times.diff() < 0).all())


def grid(kind: str, steps: int, schedule: Schedule, **options: float) -> Tensor:
    """The sampling grid of this kind: `steps` + 1 times, float64, strictly falling from 1 to 0.

    Raises InputError for an unknown kind or option, fewer than 1 step, or more steps than a discrete schedule has.
    """
    if kind == TUNED:
        raise InputError(
            f"a grid of the kind {TUNED!r} is found for a model; see carrara.tuning, or ask for another kind"
        )
    if kind not in GRIDS:
        raise InputError(f"there is no grid of times called {kind!r}: {nearest(kind, [*GRIDS, TUNED])}")
    if steps < 1:
        raise InputError(f"{steps} sampling steps were asked for; at least 1 is needed")
    if schedule.steps is not None and steps > schedule.steps:
        raise InputError(
            f"{steps} sampling steps were asked for, but the schedule {type(schedule).__name__} has only "
            f"{schedule.steps} discrete steps; ask for {schedule.steps} or fewer"
        )
    own = set(inspect.signature(GRIDS[kind]).parameters) - {"n", "schedule"}
    for name, value in options.items():
        if name not in own:
            raise InputError(
                f"the grid of times {kind!r} has no option {name!r}: {nearest(name, own) if own else 'it takes none'}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"the option {name} of the grid of times {kind!r} is {value!r}; it must be a number")
    times = GRIDS[kind](steps, schedule, **options)
    if not falls(times):
        raise InputError(
            f"the grid {kind!r} with {steps} steps and {options} does not fall strictly; use other options or fewer steps"
        )
    return times
