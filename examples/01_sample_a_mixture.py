"""Diffusion without a network: sample a Gaussian mixture by its exact denoiser, and see each sampler's error fall."""

import torch

from carrara import SAMPLERS, Gaussian, GaussianMixture, MixtureDenoiser, Streams, grid
from carrara.schedules import Flow

mixture = GaussianMixture(
    means=torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64),
    variances=torch.tensor([0.05, 0.1, 0.02], dtype=torch.float64),
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)
process = Gaussian(Flow())
denoiser = MixtureDenoiser(mixture, process)


def run(sampler: str, steps: int) -> torch.Tensor:
    """x_0 of 256 samples, always from the same noise."""
    rng = Streams(range(256))
    x = process.prior((2,), rng).double()
    for step in SAMPLERS[sampler].walk(denoiser, x, grid("uniform", steps, process.schedule), rng=rng):
        x = step.x
    return x


exact = run("unipc", 500)
print("root mean square error against the exact solution, by number of steps")
for name, sampler in SAMPLERS.items():
    if not sampler.stochastic and name != "adaptive":  # Which solves each sample alone: a reference, and slow.
        errors = [float((run(name, n) - exact).square().mean().sqrt()) for n in (10, 20, 40, 80)]
        print(f"{name:10}", "  ".join(f"{error:.5f}" for error in errors))
