"""Small convolutional autoencoders: the way to a grid of numbers and back, and one whose middle is words. No diffusion inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.blocks import Norm, PlaceNorm, padded, widened, zeroed
from carrara.networks.layers import Conv1x1, Conv3x3
from carrara.networks.options import require
from carrara.networks.quantiser import FiniteScalar
from carrara.networks.recompute import Recomputable

WIDEST = 4
"""Channels grow with every halving, up to so many times `width`."""


Normed = Callable[[int], Norm | PlaceNorm]
"""What makes a norm for so many channels."""


class Ways(nn.Module):
    """The encoder, pictures (B, channels, H, W) to numbers (B, D, h, w), and the decoder back, h = H / 2^down.

    As in the U-Net, the first halving folds 2×2 pixels into channels, so that no convolution runs where a pixel costs most.
    """

    def __init__(
        self, channels: int, given: int, taken: int, down: int, width: int, depth: int, norm: Normed = Norm
    ) -> None:
        """`given`, `taken`: the numbers of a place that the encoder gives and the decoder takes. `down`: how many times the sides
        are halved; `width`: channels after the first halving, doubled by each further one, up to four times; `depth`: residual
        blocks a resolution, on either way.

        Raises InputError for options that make no network.
        """
        super().__init__()
        _check(down, width, depth)
        self.multiple = 2**down
        widths = [width * min(2**i, WIDEST) for i in range(down)]
        self.encoder = nn.Sequential(*_encoder(channels, widths, depth, given, norm))
        self.decoder = nn.Sequential(*_decoder(channels, widths, depth, taken, norm))


class Autoencoder(Ways):
    """Pictures (B, channels, H, W) from −1 to 1 to ids (B, h, w) and back, h = ⌈H / 2^down⌉; any size."""

    def __init__(self, channels: int, levels: Sequence[int], down: int = 2, width: int = 64, depth: int = 2) -> None:
        """`levels` of the quantiser; the others see Ways. Raises InputError for options that make no network."""
        quantiser = FiniteScalar(levels)  # Which refuses levels that are none.
        super().__init__(channels, len(levels), len(levels), down, width, depth)
        self.quantiser = quantiser

    def forward(self, x: Tensor, wrong: Tensor | None = None) -> Tensor:
        """What x (B, channels, H, W) is once it has gone through its ids, with a gradient through them.

        `wrong`: ids (B, h, w) that are read in the place of its own; −1 where none is.
        """
        codes = self.quantiser(self.encoded(x))
        if wrong is not None:
            codes = torch.where(wrong[:, None] < 0, codes, self.quantiser.codes(wrong.clamp(min=0)))
        return self.back(codes, x.shape[-2:])

    def ids(self, x: Tensor) -> Tensor:
        """The ids (B, h, w) of pictures x (B, channels, H, W), int64."""
        return self.quantiser.ids(self.encoded(x))

    def encoded(self, x: Tensor) -> Tensor:
        """What is quantised: (B, D, h, w)."""
        z: Tensor = self.encoder(padded(x, self.multiple))
        return z

    def back(self, codes: Tensor, sides: Sequence[int]) -> Tensor:
        """Pictures (B, channels, *sides) of codes (B, D, h, w)."""
        y: Tensor = self.decoder(codes)
        return y[..., : sides[0], : sides[1]]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w): how many ids a picture has each way."""
        return -(-height // self.multiple), -(-width // self.multiple)


class Residual(Recomputable):
    """Two 3×3 convolutions, each after a norm and SiLU, beside what they are given: (B, C, H, W) -> the same."""

    def __init__(self, channels: int, norm: Normed = Norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.conv1, self.conv2 = Conv3x3(channels, channels), zeroed(Conv3x3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv1(self.norm1(x, silu=True)), silu=True)
        return widened(self.conv2, h, nn.Identity(), x)


class Halve(nn.Module):
    """Half the side: 2×2 pixels folded into channels and mixed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Conv1x1(4 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(F.pixel_unshuffle(x, 2))
        return out


class Double(nn.Module):
    """Twice the side: channels mixed and unfolded into 2×2 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Conv1x1(inputs, 4 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.mix(x), 2)


class Active(nn.Module):
    """A norm and SiLU, as they stand before a last convolution."""

    def __init__(self, channels: int, norm: Normed = Norm) -> None:
        super().__init__()
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x, silu=True)
        return out


def _encoder(channels: int, widths: list[int], depth: int, codes: int, norm: Normed) -> list[nn.Module]:
    """Folded, mixed, then for each resolution its blocks, and a way down between them."""
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), Conv3x3(4 * channels, widths[0])]
    for i, width in enumerate(widths):
        layers += [Halve(widths[i - 1], width)] if i else []
        layers += [Residual(width, norm) for _ in range(depth)]
    return [*layers, Active(widths[-1], norm), Conv1x1(widths[-1], codes)]


def _decoder(channels: int, widths: list[int], depth: int, codes: int, norm: Normed) -> list[nn.Module]:
    """The same the other way round."""
    layers: list[nn.Module] = [Conv3x3(codes, widths[-1])]
    for i, width in reversed(list(enumerate(widths))):
        layers += [Residual(width, norm) for _ in range(depth)]
        layers += [Double(width, widths[i - 1])] if i else []
    return [*layers, Active(widths[0], norm), Conv3x3(widths[0], 4 * channels), nn.PixelShuffle(2)]


def _check(down: int, width: int, depth: int) -> None:
    require(
        ("down", down, down >= 1, "at least 1 halving"),
        ("width", width, width >= 8 and width % 8 == 0, "a multiple of 8, at least 8"),
        ("depth", depth, depth >= 1, "at least 1 block a resolution"),
        section="trainable",
    )
