"""Pictures as their own pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from carrara.editing import pictures, places
from carrara.errors import InputError, NonFinite


class Pixels:
    """uint8 pictures (B, C, H, W) from 0 to 255, as float32 x0 from −1 to 1."""

    once: ClassVar[bool] = False

    def encode(self, media: Tensor) -> Tensor:
        """x0 (B, C, H, W) float32 in [−1, 1]. Raises InputError for anything but uint8."""
        if not isinstance(media, Tensor):
            raise InputError(
                "the codec pixels encodes pictures, and was given texts; choose a codec of texts: bytes, bpe or characters"
            )
        if media.dtype != torch.uint8:
            raise InputError(f"pictures of dtype {media.dtype} were given; they must be uint8, 0 to 255")
        return media.float() / 127.5 - 1

    def decode(self, x0: Tensor) -> Tensor:
        """uint8 pictures, values beyond [−1, 1] clipped. Raises NonFinite for NaN or infinity."""
        if not bool(torch.isfinite(x0).all()):
            raise NonFinite("the sampled x0 holds NaN or infinity, so there is no picture to decode")
        return ((x0.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def together(self, parts: Iterable[Tensor]) -> Tensor:
        """Batches of pictures as one."""
        return torch.cat(list(parts))

    def identity(self) -> str:
        """The same for all: there is one way to encode pixels."""
        return "pixels"

    def shape(self, media_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one x0, given that of one picture."""
        return media_shape

    def told(self, media_shape: tuple[int, ...]) -> dict[str, int]:
        """What a network is told of x0: its channels, and the longer of its sides. Raises InputError for texts."""
        if len(media_shape) != 3:
            raise InputError(
                "the data has texts, and pictures are needed here: choose data of pictures, or a codec of texts (bytes, bpe, "
                "characters) with a network of tokens"
            )
        channels, height, width = media_shape
        return {"channels": channels, "size": max(height, width)}

    def start(
        self, start: Tensor, mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """(x0 (count, C, H, W), bool (count, 1, H, W)): see `carrara.editing.pictures` and `places` for what may be given."""
        made = None if mask is None else places(mask, media_shape[1:], count)
        return self.encode(pictures(start, media_shape, count)), made
