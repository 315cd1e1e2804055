"""Resizers: how uint8 pictures are brought to the size a network takes. Two of them decide what a FID can be compared with.

    clean        as clean-fid does: a bicubic filter as wide as the reduction, so nothing is aliased
    tensorflow   as TensorFlow 1 does, and the reference FID with it: bilinear between the four nearest places

Both start from uint8, as pictures are once they are saved as PNG, compute in float32 and do not round what comes out.

Source: On Aliased Resizing and Surprising Subtleties in GAN Evaluation, Parmar, Zhang and Zhu, 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


def clean(images: Tensor, size: int) -> Tensor:
    """Float32 images (B, 3, size, size), values 0 to 255, of uint8 ones (B, 1 or 3, H, W).

    Bicubic with a filter as wide as the reduction, as Pillow does in mode F: rows, then columns, each summed in float64
    and kept in float32. What overshoots is clipped.
    """
    rows = images.double() @ _bicubic(images.shape[-1], size).T
    pixels = _bicubic(images.shape[-2], size) @ rows.float().double()
    return _rgb(pixels.float().clamp_(0, 255))


def _bicubic(given: int, size: int) -> Tensor:
    """How much each of `given` places counts in each of `size` places: (size, given) float64, each row's sum 1.

    Keys' cubic with a = −1/2, stretched where there are fewer places than given.
    """
    scale = given / size
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(given, dtype=torch.float64) + 0.5
    d = ((places - centres[:, None]) / max(scale, 1.0)).abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights = torch.where(d < 1, near, torch.where(d < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def tensorflow(images: Tensor, size: int) -> Tensor:
    """Float32 images (B, 3, size, size), values 0 to 255, of uint8 ones (B, 1 or 3, H, W).

    Bilinear as TensorFlow 1's resize_bilinear without align_corners: place i of the output lies at i · H / size of the
    input, half a pixel from where it should, and a reduction is not smoothed.
    """
    return _rgb(_linear(_linear(images.float(), -1, size), -2, size))


def _linear(x: Tensor, dim: int, size: int) -> Tensor:
    places = torch.arange(size) * (torch.tensor(float(x.shape[dim])) / size)
    below = places.long()
    above = (below + 1).clamp(max=x.shape[dim] - 1)
    # As TensorFlow does it, also to the last bit: a + (b − a) · the fraction, rows first.
    fraction = (places - below).reshape([-1 if axis == dim else 1 for axis in (-4, -3, -2, -1)])
    start = x.index_select(dim, below)
    return start + (x.index_select(dim, above) - start) * fraction


def _rgb(pixels: Tensor) -> Tensor:
    # Channels last: float32 convolutions are 1.3 to 2.5 times as fast on a CPU.
    return pixels.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Resizer:
    """A resizer and the words results name it by."""

    words: str
    function: Callable[[Tensor, int], Tensor] = field(repr=False)


RESIZERS = {
    "clean": Resizer("clean: antialiased bicubic of uint8", clean),
    "tensorflow": Resizer("tensorflow: bilinear of uint8 without antialiasing", tensorflow),
}
