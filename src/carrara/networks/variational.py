"""An autoencoder whose middle is a normal distribution at each place of a small grid. No diffusion inside."""

from __future__ import annotations

from torch import Tensor

from carrara.networks.autoencoder import Ways
from carrara.networks.blocks import PlaceNorm
from carrara.networks.options import require

LOGVAR = (-30.0, 20.0)
"""Between which a log-variance is kept: e to it is still a number in float32, and so is what e to its negative divides."""


class Variational(Ways):
    """Pictures (B, channels, H, W) from −1 to 1, their sides multiples of 2^down, to numbers (B, latents, h, w) and back.

    Its norms are of single places, so a number depends on the pixels within `radius` places of its own, and on no others.

    Source: Auto-Encoding Variational Bayes, Kingma & Welling, 2014; as a grid before a diffusion model: High-Resolution Image
    Synthesis with Latent Diffusion Models, Rombach et al., 2022, section 3.1.
    """

    def __init__(self, channels: int, latents: int = 4, down: int = 2, width: int = 64, depth: int = 2) -> None:
        """`latents`: numbers of a place; the others see Ways. Raises InputError for options that make no network."""
        require(("channels", latents, latents >= 1, "at least 1 number a place"), section="trainable")
        super().__init__(channels, 2 * latents, latents, down, width, depth, PlaceNorm)
        self.latents = latents
        self.radius = radius(down, depth)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y, mean, log-variance): y is what x (B, channels, H, W) is once it has gone through mean + deviation · noise."""
        mean, logvar = self.middle(x)
        return self.back(mean + (logvar / 2).exp() * noise), mean, logvar

    def middle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The means and log-variances of pictures x (B, channels, H, W), each float32 (B, latents, h, w)."""
        mean, logvar = self.encoder(x).float().chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR)

    def back(self, z: Tensor) -> Tensor:
        """Pictures (B, channels, H, W) of numbers z (B, latents, h, w)."""
        y: Tensor = self.decoder(z)
        return y


def radius(down: int, depth: int) -> int:
    """How many places away what a pixel is made of can lie, and so can what makes a number: the 3×3 convolutions on either way.

    At each resolution 2 · depth of them reach one of its cells further, and a cell of a coarser one is reached as a whole.
    """
    reach = 1  # Cells of 2×2 pixels: the last convolution's.
    for level in range(down):
        reach += 2 * depth
        reach = -(-reach // 2) if level < down - 1 else reach + 1
    return reach
