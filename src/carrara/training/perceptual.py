"""How far pictures are from each other to the eye, as far as a network that knows photographs sees what an eye sees.

Absolute and squared errors are least where a picture is blurred: of all the weaves that a sleeve may have, their mean or median. A
network that tells objects apart sees that a weave is missing, and not where exactly each thread lies.

Source: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, Zhang et al., 2018, equation 1, with all channels
weighted alike.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError
from carrara.evaluation.efficientnet import maps, network

BLOCKS = (0, 2, 4)
"""Those of EfficientNet-Lite0 that are listened to: the last ones at a half, a quarter and an eighth of the side."""
SIDE = 56
"""Pictures of smaller sides are enlarged by a whole number, until they are as large."""
PURPOSE = "A perceptual loss (trainable.perceptual above 0)"


class Perceptual:
    """The distance of pictures, by the first blocks of EfficientNet-Lite0, which is frozen and nobody's parameter."""

    def __init__(self) -> None:
        """Raises MissingExtra without the packages of `carrara[eval]`, DamagedFile on other weights."""
        self.network: Any = network(PURPOSE)

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """The distances (B,) of pictures y from x, both (B, C, H, W) from −1 to 1, C = 1 or 3; with a gradient to y alone.

        At each place the channels are brought to length 1; their squared differences are averaged over the places, and summed over
        the blocks. Between 0 for equal pictures and 4 times the number of blocks. Raises InputError for other channels.
        """
        self.network.to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            seen = self._seen(y.float())
            with torch.no_grad():
                given = self._seen(x.float())
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(seen, given, strict=True)]).sum(0)

    def _seen(self, pictures: Tensor) -> list[Tensor]:
        """The maps of pictures, each place's channels of length 1."""
        return [F.normalize(found, dim=1) for found in maps(self.network, enlarged(coloured(pictures)), BLOCKS)]


def coloured(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) of ones with 1 or 3 channels; InputError for others."""
    if pictures.shape[1] not in (1, 3):
        raise InputError(
            f"a perceptual loss is of pictures with 1 channel (grey) or 3 (RGB); got {pictures.shape[1]} in "
            f"{tuple(pictures.shape)}. Set trainable.perceptual=0"
        )
    # Channels last: float32 convolutions are faster on a CPU.
    return pictures.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def enlarged(pictures: Tensor) -> Tensor:
    """Pictures whose sides are SIDE or more, by a whole number of times as large as they were."""
    times = math.ceil(SIDE / min(pictures.shape[-2:]))
    return pictures if times <= 1 else F.interpolate(pictures, scale_factor=times, mode="bilinear")
