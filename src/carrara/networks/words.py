"""Words that are made of parts, such as those of a picture: what is learnt of a part is known of every word that has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carrara.networks.options import require
from carrara.networks.quantiser import FiniteScalar


class Parts(nn.Module):
    """Vectors of words as sums of their parts'. Part d of a word is one of `levels[d]`; words count through all, part 0 fastest.

    A table of as many rows as all levels together stands for that of their product.
    """

    rows: Tensor
    """(the words and a last one that has no parts, all levels together): 1 where a word has a level."""

    def __init__(self, levels: Sequence[int], vocab: int, width: int) -> None:
        """Raises InputError where the words are not those of `levels`."""
        super().__init__()
        holds = bool(levels) and math.prod(levels) == vocab
        require(("factored", True, holds, "false where words are not made of parts, as those of the codec vq are"))
        self.vectors = nn.Embedding(sum(levels), width)
        rows = [F.one_hot(part, level) for part, level in zip(parts(levels).T, levels, strict=True)]
        self.register_buffer("rows", F.pad(torch.cat(rows, 1).float(), (0, 0, 0, 1)), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors (…, width) of words (…), ids from 0 to `vocab`, which has none and is 0."""
        return F.embedding(ids, self.rows) @ self.vectors.weight

    def table(self) -> Tensor:
        """The vectors (vocab, width) of all words."""
        return self.rows[:-1] @ self.vectors.weight


def parts(levels: Sequence[int]) -> Tensor:
    """Which level each part of each word has, int64 (vocab, D), numbered as `carrara.networks.quantiser.FiniteScalar` does."""
    ids = torch.arange(math.prod(levels))
    return FiniteScalar(levels).parts(ids[:, None, None])[:, :, 0, 0]
