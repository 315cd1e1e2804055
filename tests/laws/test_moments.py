"""Ancestral sampling with the exact belief draws from the data's law: its moments are the mixture's, within Monte-Carlo error."""

import pytest
import torch
from torch import Tensor
from toys import SCHEDULE_CASES, Bulk, judge, last, mixture

from carrara.samplers import ancestral
from carrara.times import grid

N, STEPS = 5000, 600
TOO_FAR = 4.0
"""In standard errors: one number in 16000 lies beyond; the generator's seed is fixed."""


def z_scores(values: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the mean over the N rows of values (N, …) lies from `expected`."""
    return (values.mean(0) - expected) / (values.std(0) / len(values) ** 0.5)


@pytest.mark.parametrize("kind", ["flow", "edm", "linear_beta"])
def test_moments_of_ancestral_samples(kind: str) -> None:
    schedule, data, rng = SCHEDULE_CASES[kind], mixture(), Bulk(N, seed=11)
    denoiser = judge(schedule)
    prior = denoiser.process.prior((2,), rng).double()  # type: ignore[arg-type]
    x = last(ancestral(denoiser, prior, grid("karras", STEPS, schedule), rng=rng))  # type: ignore[arg-type]
    assert z_scores(x, data.mean).abs().max() < TOO_FAR
    centred = x - data.mean
    assert z_scores(centred[:, :, None] * centred[:, None], data.covariance).abs().max() < TOO_FAR
    share = data.joint_log_prob(x).softmax(-1)
    assert z_scores(share, data.weights).abs().max() < TOO_FAR
    # Within each Gaussian, the squared distance from its mean in units of its own variance: 1 an axis.
    square = (x[:, None] - data.means).square().sum(-1) / (2 * data.variances)
    assert z_scores((share * square).sum(-1), torch.ones(())).abs() < TOO_FAR


def test_the_measure_sees_five_per_cent() -> None:
    """Exact samples pass the measure; the same samples, 5 % too wide, do not."""
    data = mixture()
    generator = torch.Generator().manual_seed(3)
    k = torch.multinomial(data.weights, N, replacement=True, generator=generator)
    x = data.means[k] + data.variances[k, None].sqrt() * torch.randn(N, 2, dtype=torch.float64, generator=generator)
    for stretch, far in ((1.0, False), (1.05, True)):
        centred = stretch * (x - data.mean)
        z = z_scores(centred[:, :, None] * centred[:, None], data.covariance)
        assert bool(z.abs().max() > TOO_FAR) is far
