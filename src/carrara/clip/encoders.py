"""Encoders that are not trained: what a picture or a text is made of, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from carrara import clip
from carrara.evaluation import cache
from carrara.evaluation.features import Known
from carrara.plugins import find

Given = TypeVar("Given", contravariant=True)
PART = 64


class Encoder(Known, Protocol[Given]):
    """A map from B pictures, or B texts, to features, with all that decides its values."""

    def __call__(self, given: Given, /) -> Tensor:
        """Float32 features (B, dim)."""


Pictures = Encoder[Tensor]
Texts = Encoder[Sequence[str]]


def pictures(kind: str) -> Pictures:
    """The encoder of uint8 pictures (B, C, H, W) of this kind, or at this "module:name". Raises InputError for none."""
    made: Pictures = find("trainable.image of kind", kind, clip.PICTURES)()
    return made


def texts(kind: str) -> Texts:
    """The encoder of texts of this kind, or at this "module:name". Raises InputError for none."""
    made: Texts = find("trainable.text of kind", kind, clip.TEXTS)()
    return made


def encoded(encoder: Encoder[Any], given: Any, count: int) -> Tensor:
    """The features (count, dim) of all that is given, computed PART at a time."""
    rows = torch.empty(count, encoder.dim)
    for start in range(0, count, PART):
        rows[start : start + PART] = encoder(given[start : start + PART])
    return rows


def kept(encoder: Encoder[Any], what: str, compute: Callable[[], Tensor], folder: Path | None = None) -> Tensor:
    """What `compute` gives, or what it gave for the same encoder and `what`: features are computed once for all runs."""
    key: cache.Key = {
        "what": "clip features",
        "protocol": 2,
        "encoder": encoder.name,
        "sha256": encoder.sha256,
        "of": what,
    }
    return cache.kept(key, folder or cache.cache_folder(), lambda: {"features": compute()})["features"]
