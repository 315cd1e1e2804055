"""diffusers' UNet2DModel, trained as its example for unconditional pictures does, with a label added, and sampled by its
EulerAncestralDiscreteScheduler.

Source: the numbers are those of diffusers' examples/unconditional_image_generation and of its tutorial "Train a diffusion model".
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.rivals.rival import SIZE, Mode, Rival, bytes_of, check_labels, noise
from benchmarks.rivals.sizes import Widths

WIDTHS: Widths = (64, 128, 128, 128)
WARMUP_STEPS = 500
SAMPLING_STEPS = 30
"""Of Euler ancestral, the best of what was tried on a network trained for 8 minutes: the lab log has what else was. Without noise
nothing corrects the errors of the first steps."""
BATCH = 16


@cache
def library() -> Any:
    """The package, told to be quiet: its settings are chosen here on purpose."""
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    return diffusers


def network(channels: int, classes: int, widths: Widths = WIDTHS) -> nn.Module:
    """Its U-Net for pictures (channels, 32, 32), all but the widths as by default: attention in all resolutions but the first."""
    net: nn.Module = library().UNet2DModel(
        sample_size=SIZE,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        num_class_embeds=classes or None,
    )
    return net


def ancestral(config: Any, steps: int) -> Any:
    """Its Euler ancestral sampler, set to so many trailing times."""
    with warnings.catch_warnings():
        # It hands tensors to numpy in the way of numpy 1.
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        scheduler = library().EulerAncestralDiscreteScheduler.from_config(config, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
    return scheduler


class OfDiffusers(Rival):
    """diffusers' way: eps-prediction on 1000 linear steps, AdamW, a cosine after 500 steps of warm-up, its warmed-up average."""

    def __init__(
        self, channels: int, classes: int, steps: int, mode: Mode, widths: Widths = WIDTHS, batch: int = BATCH
    ) -> None:
        """`steps`: those of the whole training, which the learning rate's cosine needs to know."""
        from diffusers.optimization import get_cosine_schedule_with_warmup
        from diffusers.training_utils import EMAModel

        super().__init__(network(channels, classes, widths), mode)
        self.channels, self.classes, self.batch = channels, classes, batch
        self.scheduler = library().DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.rate = get_cosine_schedule_with_warmup(self.optimiser, WARMUP_STEPS, steps)
        self.ema = EMAModel(self.net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        clean = 2 * images - 1
        eps = torch.randn_like(clean)
        times = torch.randint(0, 1000, (len(clean),))
        noisy = self.scheduler.add_noise(clean, eps, times)
        return F.mse_loss(self._output(noisy, times, labels).float(), eps)

    def _output(self, x: Tensor, times: Tensor | int, labels: Tensor) -> Tensor:
        asked = {"class_labels": labels} if self.classes else {}
        output: Tensor = self.net(x, times, return_dict=False, **asked)[0]
        return output

    def _followed(self) -> None:
        self.rate.step()
        self.ema.step(self.net.parameters())

    def _extra(self) -> dict[str, Any]:
        return {"rate": self.rate, "ema": self.ema}

    def average(self) -> dict[str, Tensor]:
        """The averaged weights, by the network's names; it has no buffers."""
        named = zip(self.net.named_parameters(), self.ema.shadow_params, strict=True)
        return {name: value.clone() for (name, _), value in named}

    @torch.no_grad()
    def sample(self, n: int, labels: Tensor, seed: int, steps: int | None = None) -> Tensor:
        """n pictures uint8 (n, C, 32, 32) as its pipelines make them, on trailing times."""
        check_labels(n, labels)
        self.net.eval()
        scheduler = ancestral(self.scheduler.config, steps or SAMPLING_STEPS)
        rng = torch.Generator().manual_seed(seed)
        x = self.mode.laid(torch.randn((n, self.channels, SIZE, SIZE), generator=rng) * scheduler.init_noise_sigma)
        for t in scheduler.timesteps:
            with self.mode.autocast():
                output = self._output(scheduler.scale_model_input(x, t), t, labels)
            x = scheduler.step(output.float(), t, x, generator=rng).prev_sample
        return bytes_of((x + 1) / 2)

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Pictures, times and, where there are classes, labels."""
        x, times = noise(batch, self.channels), torch.full((batch,), 500)
        labels = (torch.zeros(batch, dtype=torch.long),) if self.classes else ()
        return (self.mode.laid(x), times, *labels)
