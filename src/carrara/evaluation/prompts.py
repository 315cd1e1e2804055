"""What a model is asked for when it is measured: captions of held-out pictures, so that samples and real pictures show the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from carrara.evaluation.inputs import shuffled

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model


def prompted(model: Model) -> bool:
    """Whether a model is asked for by prompt."""
    return "text" in (model.condition.null(1) or {})


def heldout_rows(dataset: Dataset, n: int) -> np.ndarray:
    """Which held-out pictures' captions n samples are asked for, int64 (n,): all in a fixed shuffled order, in turn."""
    return np.resize(shuffled(len(dataset.heldout)), n)


def wishes_of(model: Model, dataset: Dataset, n: int, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """The wishes, with a held-out caption for each of n samples where the model is asked by prompt and nobody gave any."""
    captions = dataset.heldout.captions
    if captions is None or "prompt" in wishes or not prompted(model):
        return dict(wishes)
    return {**wishes, "prompt": [captions[row] for row in heldout_rows(dataset, n)]}


def classes_of(dataset: Dataset, n: int, wishes: Mapping[str, Any]) -> Tensor | None:
    """The classes (n,) int64 of the held-out pictures whose captions samples are asked for; None where they are asked others."""
    rows, captions = heldout_rows(dataset, n), dataset.heldout.captions
    asked = None if captions is None else [captions[row] for row in rows]
    if not dataset.classes or asked is None or wishes.get("prompt") != asked:
        return None
    return torch.from_numpy(dataset.heldout.labels[rows])
