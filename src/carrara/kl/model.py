"""A KlModel: an autoencoder whose middle is a small grid of numbers, and what is known of it. One folder, as of every model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from carrara import __version__, tensors
from carrara.autoencoders import AutoencoderModel, check_pictures, restored, told, whole
from carrara.codecs.pixels import Pixels
from carrara.errors import InputError, NonFinite
from carrara.evaluation.fidelity import fidelity
from carrara.kinds import KL
from carrara.kl.bottleneck import Scaling
from carrara.kl.tiles import Tiles, tiled
from carrara.model import evaluating
from carrara.networks.variational import Variational
from carrara.recipe import Recipe

SLICE = 64 * 64 * 64
"""Pixels that are computed at once, of as many whole pictures as have no more, or of one."""
TILE = 64
"""The side in places above which a picture is computed in tiles: 256 pixels where a place is 4."""
SPARE = 4
"""Places over which tiles are blended, beside those that are lost on either side."""
SHIFT, SCALE = "latents.shift", "latents.scale"


@dataclass
class KlModel(AutoencoderModel[Variational]):
    """Pictures uint8 (B, C, H, W) to latents float32 (B, D, h, w), of mean 0 and variance 1 over its training pictures, and back.

    A latent is the mean of its place's normal distribution, shifted and scaled channel by channel. Pictures may be of any size
    whose sides are multiples of `factor`.

    Source: High-Resolution Image Synthesis with Latent Diffusion Models, Rombach et al., 2022, section 3.1 and appendix G.
    """

    scaling: Scaling = field(default_factory=lambda: Scaling.none(1))
    """What makes latents of what the encoder gives."""
    measure: Callable[[], Scaling] | None = None
    """What finds the scaling when a training is saved."""
    tile: int = TILE
    """The side in places above which pictures are computed in tiles."""
    overlap: int | None = None
    """Places that tiles have in common; None: as many as make them equal to the whole."""

    kind: ClassVar[str] = KL

    @property
    def factor(self) -> int:
        """Pixels along a side of a place."""
        factor: int = self.network.multiple
        return factor

    @property
    def tiles(self) -> Tiles:
        """How large pictures are cut."""
        lost = self.network.radius
        return Tiles(self.tile, 2 * lost + SPARE if self.overlap is None else self.overlap, lost)

    def weights(self) -> dict[str, Tensor]:
        """All that was trained or measured, by name."""
        return {**self.network.state_dict(), SHIFT: self.scaling.shift, SCALE: self.scaling.scale}

    def restore(self, path: Path) -> None:
        """Takes what `weights` had when they were saved there."""
        found = tensors.fitting(path, self.weights())
        self.scaling = Scaling(found.pop(SHIFT), found.pop(SCALE))
        self.network.load_state_dict(found)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w): how many places a picture has each way. Raises InputError for sides that are no multiples of `factor`."""
        if height % self.factor or width % self.factor or not height * width:
            near = " or ".join(map(str, _multiples(height if height % self.factor else width, self.factor)))
            raise InputError(
                f"pictures of {height}×{width} pixels do not divide into places of the autoencoder {self.recipe.name}: "
                f"a side must be a multiple of {self.factor}, such as {near}. Set data.size to one"
            )
        return height // self.factor, width // self.factor

    def encode(self, media: Tensor) -> Tensor:
        """The latents, float32 (B, D, h, w), of uint8 pictures (B, C, H, W); InputError for others."""
        return self.scaling.scaled(self.means(media))

    def decode(self, latents: Tensor) -> Tensor:
        """Uint8 pictures (B, C, H, W) of latents (B, D, h, w). Raises InputError for others, NonFinite for NaN or infinity."""
        if latents.ndim != 4 or latents.shape[1] != self.network.latents:
            raise InputError(
                f"latents of shape {tuple(latents.shape)} were given; those of the autoencoder {self.recipe.name} are "
                f"(B, {self.network.latents}, h, w)"
            )
        if not bool(torch.isfinite(latents).all()):
            raise NonFinite("the sampled latents hold NaN or infinity, so there is nothing to decode")
        return self._pictures(self.scaling.unscaled(latents.float()))

    def means(self, media: Tensor) -> Tensor:
        """The same before they are shifted and scaled."""
        check_pictures(media, self.recipe.name, self.shape[0])
        places = self.grid(*media.shape[-2:])
        return self._computed(lambda x: self.network.middle(x)[0], Pixels().encode(media), places, self.factor, 1)

    def again(self, media: Tensor) -> Tensor:
        """What pictures uint8 (B, C, H, W) are once they were latents."""
        return self._pictures(self.means(media))

    def figures(self, media: Tensor) -> dict[str, float]:
        """mse, psnr and ssim of what is left of pictures uint8 (B, C, H, W)."""
        return fidelity(media, self.again(media))

    @property
    def latents(self) -> tuple[int, int, int]:
        """Of one picture that it was trained on: (D, h, w)."""
        return (self.network.latents, *self.grid(*self.shape[1:]))

    def _pictures(self, z: Tensor) -> Tensor:
        h, w = z.shape[-2:]
        x0 = self._computed(self.network.back, z, (h, w), 1, self.factor)
        if not bool(torch.isfinite(x0).all()):
            raise NonFinite(f"the decoder of the autoencoder {self.recipe.name} gives NaN or infinity")
        return Pixels().decode(x0)

    def _computed(
        self, way: Callable[[Tensor], Tensor], x: Tensor, places: tuple[int, int], given: int, made: int
    ) -> Tensor:
        """way(x), of as many pictures at once as memory is meant for, and of large ones in tiles."""

        def part(rows: Tensor) -> Tensor:
            return way(rows.to(self.device)).float()

        cut = max(places) > self.tile
        at_once = max(1, SLICE // (min(places[0], self.tile) * min(places[1], self.tile) * self.factor**2))
        with torch.no_grad(), evaluating(self.network):
            slices = torch.split(x, at_once)
            made_of = [tiled(part, rows, self.tiles, given, made) if cut else part(rows) for rows in slices]
        return torch.cat([rows.to(x.device) for rows in made_of])

    def fill(self, folder: Path) -> None:
        """Writes the files of a model folder but its manifest; first its scaling is measured, where it has just been trained."""
        if self.measure is not None:
            self.scaling = self.measure()
        super().fill(folder)

    def card(self) -> str:
        """The model card, in Markdown: what it is, what it was trained on, its figures, how to use it."""
        size = "×".join(map(str, self.shape))
        grid = "×".join(map(str, self.latents))
        return (
            f"# {self.recipe.name}\n\nAn autoencoder: pictures {size} (C×H×W) to {grid} numbers and back, "
            f"{self.parameters:,} parameters, made with carrara {__version__}.\n\n{told(self.facts)}\n\n"
            "```python\nfrom carrara.kl.model import load\n\n"
            'kl = load("path/of/this/folder")\nlatents = kl.encode(pictures)\nagain = kl.decode(latents)\n```\n\n'
            "In a recipe: `codec: {kind: kl, model: path/of/this/folder}`.\n"
        )


def build(recipe: Recipe, shape: Sequence[int]) -> KlModel:
    """The untrained KlModel of a recipe, for pictures of this shape (C, H, W), its parameters drawn from the recipe's seed.

    Raises InputError for pictures whose sides do not divide into its places.
    """
    options = recipe.sections["trainable"]
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Variational(channels, *(options[name] for name in ("channels", "down", "width", "depth")))
    model = KlModel(recipe, network, (channels, height, width), scaling=Scaling.none(network.latents))
    model.grid(height, width)
    return model


def load(path: str | Path) -> KlModel:
    """The KlModel in a model folder, or in the folder of a finished run. Nothing is ever fetched.

    Raises InputError where there is none, DamagedFile, by name, for what is damaged.
    """
    return read(whole(path))


def read(folder: Path) -> KlModel:
    """The KlModel whose files are in this folder, which somebody else has compared with their hashes."""
    return restored(folder, KL, build)


def _multiples(side: int, factor: int) -> list[int]:
    """The multiples of `factor` around a side, at least the first."""
    below = side // factor * factor
    return [multiple for multiple in (below, below + factor) if multiple]
