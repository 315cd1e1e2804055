"""A classifier trained on real pictures that reads the class of samples.

It answers whether a model that was asked for a 7 drew one. It errs on real pictures too, so its rate on samples is to
be read beside its accuracy on held-out pictures; a model that draws only typical pictures may well exceed that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError
from carrara.evaluation.inputs import Progress, batches, checked_images, checked_samples, gathered, shuffled

if TYPE_CHECKING:
    from carrara.data import Dataset, Split

LIMIT = 20_000
VALUES = 1024
COMPONENTS = 100
BATCH = 1000


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads the class of pictures (C, H, W) = `shape`: principal components, then an RBF support vector machine."""

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train_n: int
    accuracy: float
    """The share of held-out pictures it reads rightly, 0 to 1."""
    accuracy_n: int
    """How many held-out pictures that was measured on."""
    pipeline: Any = field(repr=False)

    @classmethod
    def fit(cls, dataset: Dataset, limit: int | None = LIMIT, progress: Progress | None = None) -> Reader:
        """A Reader of the dataset's classes, the same one every time.

        It learns from the first `limit` training pictures in a fixed shuffled order (None: all) and is measured on as
        many held-out ones at most. Raises InputError when there are fewer than two classes. Progress counts two steps.
        """
        media, labels = _chosen(dataset.train, limit)
        if len(np.unique(labels)) < 2:
            raise InputError(f"a reader needs pictures of at least two classes; {dataset.name} has too few.")
        values = _values(media)
        pipeline = _pipeline(values).fit(values, labels)
        _report(progress, 1)
        heldout, truth = _chosen(dataset.heldout, limit)
        accuracy = float(np.mean(_predicted(pipeline, heldout) == truth))
        _report(progress, 2)
        return cls(dataset.shape, dataset.classes, len(labels), accuracy, len(truth), pipeline)

    def read(self, images: Tensor) -> Tensor:
        """The class (N,) int64 of uint8 images (N, C, H, W) of the reader's shape; otherwise InputError."""
        return torch.from_numpy(_predicted(self.pipeline, checked_samples(images, self.shape)))

    def read_rate(self, images: Tensor, asked: Tensor | Sequence[int]) -> float:
        """The share, 0 to 1, of images (N, C, H, W) that are read as the class (N,) asked for."""
        wanted = torch.as_tensor(asked)
        if wanted.shape != (len(images),):
            raise InputError(f"{len(images)} images need as many classes; got the shape {tuple(wanted.shape)}.")
        return float((self.read(images) == wanted).double().mean())


def _chosen(split: Split, limit: int | None) -> tuple[Tensor, npt.NDArray[np.int64]]:
    rows = shuffled(len(split), limit)
    return gathered(split.pictures, rows), split.labels[rows]


def _values(images: Tensor) -> npt.NDArray[np.float32]:
    """Flat float32 values (N, D), 0 to 1; larger pictures are averaged over areas until D is at most about 1024."""
    channels, height, width = checked_images(images).shape[1:]
    shrink = min(1.0, (VALUES / (channels * height * width)) ** 0.5)
    size = (max(1, int(height * shrink)), max(1, int(width * shrink)))
    pooled = [F.adaptive_avg_pool2d(part.float() / 255, size).flatten(1) for part in batches(images, BATCH)]
    values: npt.NDArray[np.float32] = torch.cat(pooled).numpy()
    return values


def _pipeline(values: npt.NDArray[np.float32]) -> Any:
    # Imported here: scikit-learn takes a second, and most of the room does without it.
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    components = min(COMPONENTS, *values.shape)
    return make_pipeline(PCA(components, svd_solver="full"), SVC(C=10, cache_size=500))


def _predicted(pipeline: Any, images: Tensor) -> npt.NDArray[np.int64]:
    labels: npt.NDArray[np.int64] = pipeline.predict(_values(images))
    return labels


def _report(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done, 2)
