"""How like pictures their reconstructions are: mean squared error, peak signal to noise, structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, DEVIATION = 11, 1.5
"""Of the Gaussian window, in pixels; of smaller pictures the window is as large as their shorter side, if that is odd."""
K1, K2 = 0.01, 0.03
BATCH = 256
"""Pictures that are compared at once."""


def fidelity(media: Tensor, again: Tensor) -> dict[str, float]:
    """mse, psnr and ssim of uint8 pictures (N, C, H, W) beside what they have become."""
    squared = mse(media, again)
    return {"mse": squared, "psnr": psnr(squared), "ssim": ssim(media, again)}


def mse(one: Tensor, other: Tensor) -> float:
    """The mean squared difference of uint8 pictures, whose pixels go from 0 to 1."""
    return float((one.double() - other.double()).div(255).square().mean())


def psnr(squared: float) -> float:
    """−10 log10 of a mean squared error of pixels from 0 to 1, in decibels; infinite for none."""
    return math.inf if squared == 0 else -10 * math.log10(squared)


def ssim(one: Tensor, other: Tensor) -> float:
    """The mean structural similarity of uint8 pictures (N, C, H, W), from −1 to 1, 1 for equal ones; of each channel by itself.

    (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂)) within a Gaussian window, averaged over the places at
    which that lies inside the picture.

    Source: Image Quality Assessment: From Error Visibility to Structural Similarity, Wang et al., 2004, equation 13.
    """
    parts = zip(torch.split(one, BATCH), torch.split(other, BATCH), strict=True)
    return float(torch.cat([_similarity(x.float() / 255, y.float() / 255) for x, y in parts]).mean())


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """The similarity of each of pictures (N, C, H, W) from 0 to 1: (N,)."""
    weights = window(min(WINDOW, *x.shape[-2:]))
    mean_x, mean_y = _smoothed(x, weights), _smoothed(y, weights)
    var_x = _smoothed(x * x, weights) - mean_x.square()
    var_y = _smoothed(y * y, weights) - mean_y.square()
    cov = _smoothed(x * y, weights) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + K1**2) * (2 * cov + K2**2)
    scale = (mean_x.square() + mean_y.square() + K1**2) * (var_x + var_y + K2**2)
    found: Tensor = (alike / scale).flatten(1).mean(1)
    return found


def window(size: int) -> Tensor:
    """The weights of a window of this many pixels, or of one fewer where that is even, (odd,), whose sum is 1."""
    odd = size - 1 + size % 2
    weights = torch.exp(-((torch.arange(odd) - odd // 2) ** 2) / (2 * DEVIATION**2))
    return weights / weights.sum()


def _smoothed(x: Tensor, weights: Tensor) -> Tensor:
    """The means of x (N, C, H, W) within windows, where these lie inside: (N, C, H′, W′)."""
    apart = x.reshape(-1, 1, *x.shape[-2:])
    found: Tensor = F.conv2d(F.conv2d(apart, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return found.reshape(len(x), -1, *found.shape[-2:])
