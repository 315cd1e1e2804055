"""InceptionV3 as it was published on 2015-12-05, the network FID, sFID and the Inception Score are defined by.

    conv … conv_4         299 × 299 × 3    →  35 × 35 × 192     the stem
    mixed … mixed_2                        →  35 × 35 × 288     Factored
    mixed_3 … mixed_7                      →  17 × 17 × 768     one Reduced, four Factored with 1 × 7 and 7 × 1
    mixed_8 … mixed_10                     →   8 × 8 × 2048     one Reduced, two Spread
    mean over the 8 × 8                    →  2048              the features of FID
    classes                                →  1008              the logits of the Inception Score

Names are those of the graph. It differs from torchvision's InceptionV3 in three places: averages do not count the
padding, the last block's pooling takes the largest value, and there are 1008 classes. Each normalisation is folded
into the convolution before it.

Sources: Rethinking the Inception Architecture for Computer Vision, Szegedy et al., 2016; the graph itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 299
DIM = 2048
CLASSES = 1008
SPATIAL_CHANNELS = 7
SPATIAL_DIM = SPATIAL_CHANNELS * 17 * 17

Shape = tuple[int, int | tuple[int, int]]
"""A convolution's channels and the size of its kernel."""


class Outputs(NamedTuple):
    """What one pass gives: pool (B, 2048), spatial (B, 2023), logits (B, 1008) or None without the last layer."""

    pool: Tensor
    """The features of FID: the mean of the last block over its 8 × 8 places."""
    spatial: Tensor
    """The features of sFID: the first 7 channels at the 17 × 17 places of mixed_6's first branch, its `conv`."""
    logits: Tensor | None
    """The logits of the Inception Score, which leaves out the last layer's bias; add `classes.bias` for all of them."""


class Convolution(nn.Conv2d):
    """A convolution with its normalisation folded in, and what is positive of it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(super().forward(x))


class Averaged(Convolution):
    """A Convolution of 1 × 1 of the means over the 3 × 3 places around each; at the border, of those in the picture.

    The mean is taken after the convolution, with which it commutes, because there are fewer channels there.
    """

    def forward(self, x: Tensor) -> Tensor:
        means = F.avg_pool2d(nn.Conv2d.forward(self, x), 3, stride=1, padding=1, count_include_pad=False)
        return F.relu_(means)


class Largest(Convolution):
    """A Convolution of the largest values over the 3 × 3 places around each."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.max_pool2d(x, 3, stride=1, padding=1))


def same(channels: int, shape: Shape) -> Convolution:
    """A Convolution that keeps height and width."""
    out, kernel = shape
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return Convolution(channels, out, (height, width), padding=(height // 2, width // 2))


def halving(channels: int, out: int) -> Convolution:
    """A Convolution of 3 × 3 that halves height and width."""
    return Convolution(channels, out, 3, stride=2)


def tower(channels: int, shapes: Sequence[Shape], halved: int | None = None) -> nn.Sequential:
    """Convolutions one on another, named conv, conv_1, …; a last one of `halved` channels halves."""
    layers: list[nn.Module] = []
    for shape in shapes:
        layers.append(same(channels, shape))
        channels = shape[0]
    if halved is not None:
        layers.append(halving(channels, halved))
    names = ["conv", *(f"conv_{index}" for index in range(1, len(layers)))]
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


class Factored(nn.Module):
    """Four branches: 1 × 1, two towers, and 1 × 1 over the means around each place."""

    def __init__(self, channels: int, first: int, short: Sequence[Shape], long: Sequence[Shape], pooled: int) -> None:
        super().__init__()
        self.conv = same(channels, (first, 1))
        self.tower = tower(channels, short)
        self.tower_1 = tower(channels, long)
        self.tower_2 = nn.Sequential(OrderedDict(conv=Averaged(channels, pooled, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.conv(x), self.tower(x), self.tower_1(x), self.tower_2(x)], 1)


class Reduced(nn.Module):
    """Branches that halve height and width, side by side with the largest values over 3 × 3."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        largest = F.max_pool2d(x, 3, stride=2)
        return torch.cat([*(branch(x) for branch in self.children()), largest], 1)


class Spread(nn.Module):
    """1 × 1; two towers that end in 1 × 3 beside 3 × 1; and 1 × 1 over the means or the largest values around each place."""

    def __init__(self, channels: int, pooled: type[Averaged] | type[Largest]) -> None:
        super().__init__()
        self.conv = same(channels, (320, 1))
        self.tower_conv = same(channels, (384, 1))
        self.tower_mixed_conv = same(384, (384, (1, 3)))
        self.tower_mixed_conv_1 = same(384, (384, (3, 1)))
        self.tower_1_conv = same(channels, (448, 1))
        self.tower_1_conv_1 = same(448, (384, 3))
        self.tower_1_mixed_conv = same(384, (384, (1, 3)))
        self.tower_1_mixed_conv_1 = same(384, (384, (3, 1)))
        self.tower_2_conv = pooled(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = self.tower_conv(x)
        long = self.tower_1_conv_1(self.tower_1_conv(x))
        wide = [self.tower_mixed_conv(short), self.tower_mixed_conv_1(short)]
        wider = [self.tower_1_mixed_conv(long), self.tower_1_mixed_conv_1(long)]
        return torch.cat([self.conv(x), *wide, *wider, self.tower_2_conv(x)], 1)


def fine(channels: int, pooled: int) -> Factored:
    """A block at 35 × 35."""
    return Factored(channels, 64, [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], pooled)


def coarse(width: int) -> Factored:
    """A block at 17 × 17, whose 7 × 7 are factored into 1 × 7 and 7 × 1."""
    row, column = (1, 7), (7, 1)
    short: list[Shape] = [(width, 1), (width, row), (192, column)]
    long: list[Shape] = [(width, 1), (width, column), (width, row), (width, column), (192, row)]
    return Factored(768, 192, short, long, 192)


def first_reduction() -> Reduced:
    """35 × 35 × 288 → 17 × 17 × 768."""
    long = tower(288, [(64, 1), (96, 3)], halved=96)
    return Reduced(conv=halving(288, 384), tower=long)


def second_reduction() -> Reduced:
    """17 × 17 × 768 → 8 × 8 × 1280."""
    short = tower(768, [(192, 1)], halved=320)
    long = tower(768, [(192, 1), (192, (1, 7)), (192, (7, 1))], halved=192)
    return Reduced(tower=short, tower_1=long)


class InceptionV3(nn.Module):
    """Float32 images (B, 3, 299, 299) with values 0 to 255 -> Outputs."""

    def __init__(self, classified: bool = True) -> None:
        super().__init__()
        self.conv = halving(3, 32)
        self.conv_1 = Convolution(32, 32, 3)
        self.conv_2 = same(32, (64, 3))
        self.conv_3 = same(64, (80, 1))
        self.conv_4 = Convolution(80, 192, 3)
        self.mixed, self.mixed_1, self.mixed_2 = fine(192, 32), fine(256, 64), fine(288, 64)
        self.mixed_3 = first_reduction()
        self.mixed_4, self.mixed_5, self.mixed_6, self.mixed_7 = coarse(128), coarse(160), coarse(160), coarse(192)
        self.mixed_8 = second_reduction()
        self.mixed_9, self.mixed_10 = Spread(1280, Averaged), Spread(2048, Largest)
        self.classes = nn.Linear(DIM, CLASSES) if classified else None

    def forward(self, images: Tensor) -> Outputs:
        x = self.mixed_5(self.mixed_4(self.mixed_3(self._fine((images - 128) / 128))))
        x = self.mixed_6(x)
        spatial = x[:, :SPATIAL_CHANNELS]
        pool = self.mixed_10(self.mixed_9(self.mixed_8(self.mixed_7(x)))).mean((2, 3))
        logits = None if self.classes is None else F.linear(pool, self.classes.weight)
        return Outputs(pool, spatial.flatten(1), logits)

    def _fine(self, x: Tensor) -> Tensor:
        """The blocks at 35 × 35 of normalised images."""
        x = F.max_pool2d(self.conv_2(self.conv_1(self.conv(x))), 3, stride=2)
        x = F.max_pool2d(self.conv_4(self.conv_3(x)), 3, stride=2)
        blocks: Tensor = self.mixed_2(self.mixed_1(self.mixed(x)))
        return blocks
