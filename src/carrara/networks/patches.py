"""A small network that says of each part of a picture how real it looks. No diffusion inside."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.blocks import Norm, padded
from carrara.networks.layers import Conv1x1, Conv3x3
from carrara.networks.recompute import Recomputable

STEEP = 0.2
"""The slope below 0 of the first layer, which no norm follows."""


class Patches(nn.Module):
    """Pictures (B, channels, H, W) to scores (B, 1, ⌈H / 4⌉, ⌈W / 4⌉), each of about 20×20 pixels; any size.

    As in the autoencoder, sides are halved by folding 2×2 pixels into channels.

    Source: Image-to-Image Translation with Conditional Adversarial Networks, Isola et al., 2017, section 3.2.2, with GroupNorm:
    what a picture scores must not depend on those beside it.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        """`width`: channels after the first halving; twice as many after the second."""
        super().__init__()
        self.fine = Conv3x3(4 * channels, width)
        self.coarse = Conv3x3(4 * width, 2 * width)
        self.wide = Widen(2 * width)
        self.norm = Norm(2 * width)
        self.score = Conv1x1(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.fine(F.pixel_unshuffle(padded(x, 4), 2)), STEEP)
        h = self.wide(self.coarse(F.pixel_unshuffle(h, 2)))
        scores: Tensor = self.score(self.norm(h, silu=True))
        return scores


class Widen(Recomputable):
    """GroupNorm, SiLU and a 3×3 convolution: (B, C, H, W) -> the same, each number from a wider part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.conv = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.norm(x, silu=True))
        return out
