"""What a normal middle costs, in closed form and by draws; latents of mean 0 and variance 1."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from carrara.kl.bottleneck import DEAD, Scaling, divergence


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_divergence_is_that_of_normals_summed_over_a_picture() -> None:
    mean, logvar = torch.randn(3, 4, 2, 2, generator=rng()), 2 * torch.randn(3, 4, 2, 2, generator=rng(1))
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(divergence(mean, logvar), expected)
    assert divergence(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)).item() == 0


def test_the_divergence_is_the_mean_of_log_q_over_p() -> None:
    """By 200,000 draws, within five of their standard errors."""
    mean, logvar = torch.tensor([[0.7, -1.2]]).double(), torch.tensor([[-2.0, 0.5]]).double()
    z = mean + (logvar / 2).exp() * torch.randn(200_000, 2, generator=rng(2), dtype=torch.float64)
    ratio = (Normal(mean, (logvar / 2).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1)
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - divergence(mean, logvar).item()) < 5 * error


def test_scaled_latents_have_mean_0_and_variance_1_by_channel() -> None:
    """Also far from 0, where squares lose their digits; in parts as in one."""
    wide, far = torch.tensor([0.1, 1.0, 30.0])[:, None, None], torch.tensor([1000.0, -3.0, 0.0])[:, None, None]
    z = far + wide * torch.randn(64, 3, 4, 4, generator=rng())
    found = Scaling.of([z])
    latents = found.scaled(z).double()
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=5e-3)
    torch.testing.assert_close(latents.std((0, 2, 3), correction=0), torch.ones(3).double(), rtol=1e-2, atol=0)
    torch.testing.assert_close(found.unscaled(found.scaled(z)), z)
    parts = Scaling.of(torch.split(z, 7))
    torch.testing.assert_close(parts.shift, found.shift)
    torch.testing.assert_close(parts.scale, found.scale)


def test_a_channel_that_says_nothing_is_not_blown_up() -> None:
    z = torch.randn(64, 2, 4, 4, generator=rng())
    z[:, 1] = 5 + 1e-6 * z[:, 1]
    found = Scaling.of([z])
    assert found.scale[1].item() == pytest.approx(DEAD * found.scale[0].item())
    assert float(found.scaled(z)[:, 1].abs().max()) < 0.1
    same = Scaling.of([torch.zeros(2, 2, 1, 1)]).scaled(torch.zeros(1, 2, 1, 1))
    assert bool(torch.isfinite(same).all())


def test_without_scaling_latents_are_as_they_are() -> None:
    z = torch.randn(2, 3, 4, 4, generator=rng())
    assert torch.equal(Scaling.none(3).scaled(z), z) and torch.equal(Scaling.none(3).unscaled(z), z)
