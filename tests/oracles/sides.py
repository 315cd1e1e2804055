"""Both sides of a comparison: the same exact denoiser, the same noise levels, the same draws, all in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from benchmarks.peers import Peer
from torch import Tensor
from toys import F64, Bulk, judge, last, mixture

from carrara.rng import Streams
from carrara.samplers import SAMPLERS
from carrara.schedules import EDM, Schedule

POINTS = 16
EXPLODING = EDM()


def karras_sigmas(n: int, high: float = 80.0, low: float = 0.002) -> Tensor:
    """EDM's n noise levels with rho = 7, and 0 (written out here, beside the grid of times that is tested elsewhere)."""
    place = torch.linspace(0, 1, n, dtype=F64)
    ends = high ** (1 / 7), low ** (1 / 7)
    return torch.cat([(ends[0] + place * (ends[1] - ends[0])) ** 7, torch.zeros(1, dtype=F64)])


def start(sigma: Tensor) -> Tensor:
    """x0 + sigma · eps of the mixture: (16, 2)."""
    return mixture().sample(Streams(range(POINTS))) + sigma * Bulk(POINTS, 0).normal((2,))


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact E[x0 | x0 + sigma · eps = x]."""
    return judge(EXPLODING)(x, sigma / EXPLODING.sigma_max).x0


def draws(seed: int = 7) -> Callable[[Tensor], Tensor]:
    """Noise for the peer: the same numbers, one after the other, as `Bulk(POINTS, seed)` gives to ours."""
    bulk = Bulk(POINTS, seed)
    return lambda x: bulk.normal(x.shape[1:], dtype=x.dtype)


def theirs(peer: Peer, sigmas: Tensor) -> Tensor:
    """Where the peer ends, from the shared start, in the scale in which alpha is 1."""
    return peer.walk(denoise, start(sigmas[0]), sigmas)


def ours(name: str, sigmas: Tensor, schedule: Schedule = EXPLODING, seed: int = 7, **options: object) -> Tensor:
    """Where our sampler ends on the times of these sigma / alpha, from the shared start, in the same scale."""
    times = schedule.inverse(-2 * sigmas.log())
    x = start(sigmas[0]) * schedule.alpha(times[0])
    walk = SAMPLERS[name].walk(judge(schedule), x, times, rng=Bulk(POINTS, seed), **options)
    return last(walk) / schedule.alpha(times[-1])
