"""The clock: the logarithm of the noise angle theta = atan(sigma / alpha), along which likelihoods are summed.

Along it the bound's integrand and the flow's divergence stay bounded at both ends of every schedule, infinite rates and
alpha = 0 included: it runs as −logsnr / 2 where there is little noise, and ends at log π/2 where there is nothing else.
"""

from __future__ import annotations

from torch import Tensor

from carrara.schedules import HALF_PI, Schedule


def clock_of(schedule: Schedule, t: Tensor) -> Tensor:
    """log theta at t, shape of t, float64."""
    return (HALF_PI * schedule.level(t)).log()


def angle_at(clock: Tensor) -> Tensor:
    """theta = exp(clock), at most π/2, beyond which rounding might carry it."""
    return clock.exp().clamp(max=HALF_PI)


def time_at(schedule: Schedule, clock: Tensor) -> Tensor:
    """The time t of a clock, shape of clock."""
    return schedule.at_angle(angle_at(clock))
