"""A VqModel: an autoencoder whose middle is a grid of words, and what is known of it. One folder, as of every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from carrara import __version__
from carrara.autoencoders import AutoencoderModel, restored, told, whole
from carrara.codecs.pixels import Pixels
from carrara.errors import InputError
from carrara.kinds import VQ
from carrara.model import evaluating
from carrara.networks.autoencoder import Autoencoder
from carrara.recipe import Recipe
from carrara.vq.figures import fidelity

BATCH = 64
"""Pictures that are computed at once."""
GREY = 128
"""What is shown where a word is not known yet."""


@dataclass
class VqModel(AutoencoderModel[Autoencoder]):
    """Pictures uint8 (B, C, H, W) to ids int64 (B, h · w), row after row, from a vocabulary, and back.

    Source: Neural Discrete Representation Learning, van den Oord et al., 2017; Finite Scalar Quantization, Mentzer et al., 2024.
    """

    kind: ClassVar[str] = VQ

    @property
    def levels(self) -> tuple[int, ...]:
        """How many levels each part of a word has, that which counts fastest first."""
        return tuple(self.network.quantiser.levels.flatten().tolist())

    @property
    def vocab(self) -> int:
        """How many words there are; the id `vocab` itself stands for one that is not known."""
        return self.network.quantiser.vocab

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w): how many ids a picture has each way."""
        return self.network.grid(*self.shape[1:])

    def encode(self, media: Tensor) -> Tensor:
        """The ids, int64 (B, h · w), of uint8 pictures (B, C, H, W); InputError for others."""
        if tuple(media.shape[1:]) != self.shape:
            raise InputError(
                f"pictures of shape {tuple(media.shape)} were given to the autoencoder {self.recipe.name}; it knows pictures "
                f"(B, {', '.join(map(str, self.shape))}). Train one on these, or give pictures of that size"
            )
        with torch.no_grad(), evaluating(self.network):
            parts = [self.network.ids(x.to(self.device)) for x in torch.split(Pixels().encode(media), BATCH)]
        return torch.cat(parts).flatten(1).to(media.device)

    def decode(self, ids: Tensor) -> Tensor:
        """Uint8 pictures (B, C, H, W) of ids (B, h · w); grey where an id is none of the vocabulary's, such as the mask.

        Raises InputError for another number of ids.
        """
        h, w = self.grid
        if ids.ndim != 2 or ids.shape[1] != h * w:
            raise InputError(
                f"ids of shape {tuple(ids.shape)} were given; a picture of the autoencoder {self.recipe.name} has {h * w}"
            )
        with torch.no_grad(), evaluating(self.network):
            parts = [self._decoded(part.to(self.device)) for part in torch.split(ids.reshape(-1, h, w), BATCH)]
        return torch.cat(parts).to(ids.device)

    def _decoded(self, ids: Tensor) -> Tensor:
        known = (ids >= 0) & (ids < self.vocab)
        codes = self.network.quantiser.codes(torch.where(known, ids, 0))
        codes = codes * known[:, None]  # The mean of all codes is 0.
        pictures = Pixels().decode(self.network.back(codes, self.shape[1:]))
        side = self.network.multiple
        wide = known[:, None].repeat_interleave(side, 2).repeat_interleave(side, 3)
        return torch.where(wide[..., : self.shape[1], : self.shape[2]], pictures, GREY)

    def again(self, media: Tensor) -> Tensor:
        """What pictures uint8 (B, C, H, W) are once they were ids."""
        return self.decode(self.encode(media))

    def figures(self, media: Tensor) -> dict[str, float]:
        """How much is left of pictures uint8 (B, C, H, W), and how many words are in use: see carrara.vq.figures."""
        ids = self.encode(media)
        return fidelity(media, self.decode(ids), ids, self.vocab)

    def card(self) -> str:
        """The model card, in Markdown: what it is, what it was trained on, its figures, how to use it."""
        size, grid = ("×".join(map(str, sides)) for sides in (self.shape, self.grid))
        return (
            f"# {self.recipe.name}\n\nAn autoencoder: pictures {size} (C×H×W) to {grid} ids out of {self.vocab:,} and back, "
            f"{self.parameters:,} parameters, made with carrara {__version__}.\n\n{told(self.facts)}\n\n"
            "```python\nfrom carrara.vq.model import load\n\n"
            'vq = load("path/of/this/folder")\nids = vq.encode(pictures)\nagain = vq.decode(ids)\n```\n\n'
            "In a recipe: `codec: {kind: vq, model: path/of/this/folder}`.\n"
        )


def build(recipe: Recipe, shape: Sequence[int]) -> VqModel:
    """The untrained VqModel of a recipe, for pictures of this shape (C, H, W), its parameters drawn from the recipe's seed."""
    options = recipe.sections["trainable"]
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Autoencoder(channels, *(options[name] for name in ("levels", "down", "width", "depth")))
    return VqModel(recipe, network, (channels, height, width))


def load(path: str | Path) -> VqModel:
    """The VqModel in a model folder, or in the folder of a finished run. Nothing is ever fetched.

    Raises InputError where there is none, DamagedFile, by name, for what is damaged.
    """
    return read(whole(path))


def read(folder: Path) -> VqModel:
    """The VqModel whose files are in this folder, which somebody else has compared with their hashes."""
    return restored(folder, VQ, build)
