"""denoising-diffusion-pytorch's Unet and GaussianDiffusion, trained and sampled by the numbers of its README.

It knows no labels: the classes are not told to it. Its README samples in 250 steps; here 100 are taken unless told otherwise, with
noise (eta 1), which corrects the errors of a network that is trained for minutes.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.rivals.rival import SIZE, Mode, Rival, bytes_of, check_labels, noise
from benchmarks.rivals.sizes import Widths
from carrara.training.learner import seeded

WIDTHS: Widths = (64, 128, 256, 512)
"""Its README's: dim 64, dim_mults (1, 2, 4, 8)."""
SAMPLING_STEPS = 30
ETA = 1.0
"""Of its DDIM, the best of what was tried on its network of equal size, trained for 8 minutes: the lab log has what else was."""
BATCH = 16


@cache
def library() -> Any:
    """The package. What only its own Trainer uses is not needed for the import."""
    with stubbed():
        import denoising_diffusion_pytorch

        return denoising_diffusion_pytorch


@contextmanager
def stubbed() -> Iterator[None]:
    """Within, torchvision and accelerate can be imported where they are not installed, and are empty."""
    absent = [name for name in ("torchvision", "accelerate") if importlib.util.find_spec(name) is None]
    stubs = {name: types.ModuleType(name) for name in absent}
    for stub in stubs.values():
        for word in ("transforms", "utils", "Accelerator"):
            setattr(stub, word, None)
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


def network(channels: int, widths: Widths = WIDTHS) -> nn.Module:
    """Its Unet; the widths, all multiples of the first, are its dim times its dim_mults."""
    dim = widths[0]
    net: nn.Module = library().Unet(dim=dim, dim_mults=tuple(width // dim for width in widths), channels=channels)
    return net


class OfDdpmPytorch(Rival):
    """Its way: v-prediction on 1000 steps of a sigmoid schedule, Adam, an average by ema_pytorch."""

    def __init__(self, channels: int, steps: int, mode: Mode, widths: Widths = WIDTHS, batch: int = BATCH) -> None:
        """`steps` of training are not needed: its learning rate is constant."""
        super().__init__(network(channels, widths), mode)
        self.channels, self.batch = channels, batch
        with stubbed():
            from ema_pytorch import EMA
        self.diffusion = library().GaussianDiffusion(self.net, image_size=SIZE, timesteps=1000, ddim_sampling_eta=ETA)
        self.optimiser = torch.optim.Adam(self.diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
        self.ema = EMA(self.net, beta=0.995, update_every=10, include_online_model=False)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.diffusion(images)
        return loss

    def _followed(self) -> None:
        self.ema.update()

    def _extra(self) -> dict[str, Any]:
        return {"ema": self.ema}

    def average(self) -> dict[str, Tensor]:
        """The averaged weights, by the network's names."""
        return {name: value.clone() for name, value in self.ema.ema_model.state_dict().items()}

    def sample(self, n: int, labels: Tensor, seed: int, steps: int | None = None) -> Tensor:
        """n pictures uint8 (n, C, 32, 32) by its own DDIM; the labels are not used."""
        check_labels(n, labels)
        self.net.eval()
        self.diffusion.sampling_timesteps, self.diffusion.is_ddim_sampling = steps or SAMPLING_STEPS, True
        module = sys.modules[type(self.diffusion).__module__]
        with seeded(seed), patch.object(module, "tqdm", lambda steps, **_: steps), self.mode.autocast():
            return bytes_of(self.diffusion.sample(batch_size=n).float())

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Pictures and times."""
        return self.mode.laid(noise(batch, self.channels)), torch.full((batch,), 500)
