"""Pictures as the latents of an autoencoder that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from carrara.codecs.trained import Trained, sizes
from carrara.editing import pictures, places
from carrara.errors import InputError
from carrara.kl.model import KlModel, load, read


class Kl(Trained[KlModel]):
    """uint8 pictures (B, C, H, W) as latents, float32 (B, D, h, w), by the autoencoder in a run or model folder.

    They have mean 0 and variance 1 over the autoencoder's training pictures, channel by channel, as Gaussian noise has. A latent is
    the mean of its normal distribution: the same picture has the same latents, and half as much is kept.

    Source: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al., 2022, section 3.
    """

    usual: ClassVar[str] = "kl-fashion"
    unbounded: ClassVar[bool] = True
    """A latent may be any number: what keeps x0 within those of colours would cut it, see carrara.model."""

    def __init__(self, model: Path) -> None:
        """`model`: the folder of a run of a recipe whose trainable is of kind kl, such as kl-fashion, or its model folder."""
        super().__init__(model)

    def load(self, folder: Path) -> KlModel:
        """The autoencoder in a model folder, or in that of a finished run."""
        return load(folder)

    def read(self, folder: Path) -> KlModel:
        """The autoencoder whose files are in this folder, which somebody else has compared with their hashes."""
        return read(folder)

    def encode(self, media: Tensor) -> Tensor:
        """Latents (B, D, h, w) of uint8 pictures (B, C, H, W). Raises InputError for pictures that it does not know."""
        return self.model.encode(media)

    def decode(self, x0: Tensor) -> Tensor:
        """uint8 pictures of latents (B, D, h, w), and of noised ones. Raises NonFinite for NaN or infinity."""
        return self.model.decode(x0)

    def shape(self, media_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(D, h, w), given the shape of one picture, of any size whose sides its places divide.

        Raises InputError for texts, other channels and other sides.
        """
        known, given = sizes(self.model.shape, media_shape)
        if len(media_shape) != 3:
            raise InputError(
                f"the data has texts, and the autoencoder in {self.folder} knows pictures {known}; choose data of pictures"
            )
        if media_shape[0] != self.model.shape[0]:
            raise InputError(
                f"the autoencoder in {self.folder} knows pictures {known} and the data has {given}: 1 channel is grey, 3 are RGB. "
                "Train one on this data, or choose data of its colours"
            )
        return (self.model.network.latents, *self.model.grid(*media_shape[1:]))

    def told(self, media_shape: tuple[int, ...]) -> dict[str, int]:
        """What a network is told of x0: its channels, and the longer of its sides."""
        channels, h, w = self.shape(media_shape)
        return {"channels": channels, "size": max(h, w)}

    def start(
        self, start: Tensor, mask: Tensor | None, media_shape: tuple[int, ...], count: int
    ) -> tuple[Tensor, Tensor | None]:
        """(latents (count, D, h, w), bool (count, 1, h, w)): a place is made anew where one of its pixels is to be made."""
        latents = self.encode(pictures(start, media_shape, count))
        if mask is None:
            return latents, None
        made = places(mask, media_shape[1:], count).float()
        return latents, F.max_pool2d(made, self.model.factor).bool()
