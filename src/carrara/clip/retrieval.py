"""Retrieval: how often a picture finds its own text among all, and a text its picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.data.batches import order
from carrara.errors import InputError

AT = (1, 5, 10)
HELDOUT_SEED = 0x5EED
HELDOUT_PAIRS = 512
"""The more pairs there are to confuse, the harder it is to be found: figures are of at most so many, always the same."""


def picked(count: int, limit: int = HELDOUT_PAIRS) -> npt.NDArray[np.int64]:
    """Which of `count` pairs are looked at where more than `limit` are too many, and in which order, always the same."""
    return order(count, HELDOUT_SEED, 0, min(limit, count))


def figures(similarity: Tensor) -> dict[str, float]:
    """All that this page can tell of a similarity (N, N), pictures × texts, a pair's own on the diagonal."""
    shuffled, others = true_above_shuffled(similarity), true_above_others(similarity)
    return {"true_above_shuffled": shuffled, "true_above_others": others, **recalls(similarity)}


def ranks(similarity: Tensor) -> Tensor:
    """How many of each row's N values are at least its own, the diagonal's, which counts too: (N,), 1 is best.

    Values that are equal count against it: an encoder that gives all the same finds nothing.
    """
    return (similarity >= similarity.diagonal()[:, None]).sum(1)


def recalls(similarity: Tensor) -> dict[str, float]:
    """The shares of texts whose own picture is among the best 1, 5 and 10 for them, and of pictures likewise.

    similarity: (N, N), pictures × texts, a pair's own on the diagonal. Raises InputError for anything else.
    """
    _check(similarity)
    of_texts, of_pictures = ranks(similarity.T), ranks(similarity)
    found: dict[str, float] = {}
    for name, rank in (("text_to_image", of_texts), ("image_to_text", of_pictures)):
        found |= {f"{name}_at_{k}": float((rank <= k).double().mean()) for k in AT}
    return found


def true_above_shuffled(similarity: Tensor) -> float:
    """The share of pictures that fit their own text better than another picture's, that of the one half of them further on.

    The order being fixed, so is whose text it is, and none gets its own. Equal does not count as better.
    """
    _check(similarity)
    count = len(similarity)
    other = (torch.arange(count) + count // 2) % count
    own = similarity.diagonal()
    return float((own > similarity[torch.arange(count), other]).double().mean())


def true_above_others(similarity: Tensor) -> float:
    """The same, the mean over the texts of all the other pictures."""
    _check(similarity)
    count = len(similarity)
    return float((similarity.diagonal()[:, None] > similarity).double().sum() / (count * (count - 1)))


def _check(similarity: Tensor) -> None:
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or len(similarity) < 2:
        raise InputError(
            f"retrieval is among 2 pairs or more, pictures × texts in the same order; given {tuple(similarity.shape)}"
        )
    if not bool(torch.isfinite(similarity).all()):
        raise InputError("a similarity is NaN or infinite: something was embedded by a model that is not finite")
