"""Sheets that show what a CLIP finds: captions with the pictures nearest to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from carrara.evaluation.pictures import labelled_grid

PREVIEW = 12
"""Captions on the sheets that a run takes on its way."""
FOUND = 5
"""Pictures that are shown for each."""


def found_pictures(
    media: npt.NDArray[np.uint8], captions: Sequence[str], similarity: Tensor, rows: Sequence[int]
) -> Image.Image:
    """The captions of these rows, one each: the caption's own picture, a gap, then the 5 of all that are nearest to it.

    media: uint8 (N, C, H, W); similarity: (N, N), pictures × captions.
    """
    shown = min(FOUND, len(media))
    best = nearest(similarity.T, shown)
    blank = np.full_like(media[:1], 255)
    tiles = [np.concatenate([media[[row]], blank, media[best[row]]]) for row in rows]
    labels = ["its own", "", *(str(place + 1) for place in range(shown))]
    return labelled_grid(np.concatenate(tiles), [captions[row] for row in rows], labels)


def nearest(similarity: Tensor, count: int) -> npt.NDArray[np.int64]:
    """For each row the columns of its `count` largest values, (N, count), of equal ones the first."""
    order = similarity.sort(dim=1, descending=True, stable=True).indices
    found: npt.NDArray[np.int64] = order[:, :count].numpy()
    return found
