"""How likely is a picture? Three answers where the right one is known: exact, by the ODE, and bounded."""

import torch

from carrara import Gaussian, GaussianMixture, MixtureDenoiser, Streams
from carrara.likelihood import bound, flow_log_likelihood
from carrara.schedules import Cosine

mixture = GaussianMixture(
    means=torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64),
    variances=torch.tensor([0.05, 0.1, 0.02], dtype=torch.float64),
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)
denoiser = MixtureDenoiser(mixture, Gaussian(Cosine()))
x0 = mixture.sample(Streams(range(500)))

exact = -mixture.log_prob(x0).mean()
print(f"exact                         {exact:.4f} nats")

flow = flow_log_likelihood(denoiser, x0, trace="exact", t_min=1e-3)
print(f"probability-flow ODE          {-flow.log_prob.mean():.4f}")

parts = bound(denoiser, x0, None, Streams(range(500)), bins=None, draws=64, t_min=0.01)
error = parts.total.std() / len(x0) ** 0.5
print(f"bound, in continuous time     {parts.total.mean():.4f} ± {error:.4f}", end=" = ")
print(
    f"L_T {parts.prior.mean():.3f} + diffusion {parts.diffusion.mean():.3f} + L_0 {parts.reconstruction.mean():.3f}"
)
