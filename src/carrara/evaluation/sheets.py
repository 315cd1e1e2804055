"""Sheets of pictures above what an autoencoder made of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from carrara.evaluation.pictures import labelled_grid

COLUMNS = 8


def above_each_other(
    media: npt.NDArray[np.uint8], again: npt.NDArray[np.uint8], columns: int = COLUMNS
) -> Image.Image:
    """A sheet of pictures, uint8 (N, C, H, W), each with its own one of `again` below it, `columns` in a row."""
    columns = min(columns, len(media))
    blank = np.full((-len(media) % columns, *media.shape[1:]), 255, np.uint8)
    rows = [np.concatenate([side, blank]).reshape(-1, columns, *media.shape[1:]) for side in (media, again)]
    tiles = np.stack(rows, axis=1).reshape(-1, *media.shape[1:])
    return labelled_grid(tiles, row_labels=["given", "again"] * len(rows[0]))
