"""What a model is asked for when it is measured: captions of held-out pictures, so that samples and real pictures show the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

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
