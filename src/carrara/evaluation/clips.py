"""A Clip from a folder, whoever trained it, and the figure that `carrara evaluate` takes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.captions import Captioned, clip_score
from carrara.evaluation.clip import Clip
from carrara.evaluation.inputs import Progress, gathered, shuffled
from carrara.evaluation.prompts import heldout_rows
from carrara.model import DESCRIPTION

if TYPE_CHECKING:
    from carrara.data import Dataset


def load(folder: str | Path) -> Clip:
    """The Clip in a folder: a run or model folder of carrara's (`carrara train clip-emoji`), or one of `transformers`' layout.

    Which it is, the folder's files tell. Raises InputError for any other, and what the reader of its kind raises.
    """
    folder = Path(folder).expanduser()
    if any((place / DESCRIPTION).is_file() for place in (folder, folder / "model")):
        from carrara.clip.model import load as load_ours

        return load_ours(folder)
    if (folder / "config.json").is_file():
        from carrara.evaluation.clip_folder import load_clip

        return load_clip(folder)
    raise InputError(
        f"{folder} holds no CLIP: neither one of carrara's (no {DESCRIPTION}; `carrara train clip-emoji` makes one) nor one in "
        "transformers' layout (no config.json)"
    )


def classes_score(
    samples: Tensor, labels: Tensor, dataset: Dataset, clip: Clip, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of the CLIP score of uint8 samples (N, C, H, W) beside the names of the classes (N,) they are to show; N ≥ 2.

    The ceiling is that of held-out pictures of the same classes; None where a class has none.
    """
    words = [dataset.classes[label].replace("_", " ") for label in labels.tolist()]
    real = of_classes(dataset, labels)
    found = clip_score(Captioned.of(samples, words, clip, real=real, progress=progress))
    return {**found.as_dict(), "texts": len(set(words)), "dataset": dataset.name}


def prompts_score(
    samples: Tensor, prompts: Sequence[str] | str, dataset: Dataset, clip: Clip, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of the CLIP score of uint8 samples (N, C, H, W) beside the prompts they were asked for by, one or N; N ≥ 2.

    The ceiling is that of the held-out pictures whose captions the prompts are; None where they are not all of those.
    """
    words = [prompts] * len(samples) if isinstance(prompts, str) else list(prompts)
    rows = heldout_rows(dataset, len(words))
    own = [(dataset.heldout.captions or ())[row] for row in rows] if dataset.heldout.captions else []
    real = gathered(dataset.heldout.pictures, rows) if own == words else None
    found = clip_score(Captioned.of(samples, words, clip, real=real, progress=progress))
    return {**found.as_dict(), "texts": len(set(words)), "of": "captions", "dataset": dataset.name}


def of_classes(dataset: Dataset, labels: Tensor) -> Tensor | None:
    """For each label (N,) a held-out picture of its class, uint8 (N, C, H, W), the class's in turn; None where one has none."""
    split = dataset.heldout
    order = shuffled(len(split))
    rows = np.empty(len(labels), dtype=np.int64)
    for label in sorted(set(labels.tolist())):
        mine = order[split.labels[order] == label]
        if not len(mine):
            return None
        asked = torch.nonzero(labels == label).flatten().numpy()
        rows[asked] = np.resize(mine, len(asked))
    return gathered(split.pictures, rows)
