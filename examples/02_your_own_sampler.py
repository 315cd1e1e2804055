"""A sampler in ten lines: the posterior, with noise only while there is much of it."""

from collections.abc import Iterator

import torch

from carrara import Gaussian, GaussianMixture, MixtureDenoiser, Step, Streams, grid
from carrara.samplers import pairs
from carrara.schedules import Cosine


@torch.no_grad()
def calming(denoiser, x, times, cond=None, *, rng, calm=0.3) -> Iterator[Step]:
    """Ancestral above t = calm, DDIM below it. Use it on any model: --sampler examples_module:calming."""
    for index, t, s in pairs(times):
        belief = denoiser(x, t, cond)
        x = denoiser.process.step(x, belief, t, s, rng, eta=1.0 if t > calm else 0.0)
        yield Step(index, t, s, x, belief)


mixture = GaussianMixture(torch.tensor([[2.0], [-2.0]]), torch.tensor([0.1, 0.3]), torch.tensor([0.7, 0.3]))
process = Gaussian(Cosine())
rng = Streams(range(4096))
x = process.prior((1,), rng)
for step in calming(MixtureDenoiser(mixture, process), x, grid("uniform", 100, process.schedule), rng=rng):
    x = step.x
print(
    f"mean {x.mean():.3f} (exact {mixture.mean.item():.3f}), variance {x.var():.3f} (exact {mixture.covariance.item():.3f})"
)
