"""Hubs, and how they are kept from being near everything.

In a space of many dimensions some points are near to far too many others: of emoji that the encoders know little of, most
resemble "backpack". What is asked is not how near two are, but whether they are nearer than either is to its usual neighbours:

    fit(picture, text) = ⟨picture, text⟩ − ½ usual(picture) − ½ usual(text)

where usual(text) is the mean of its products with the k training pictures nearest to it, and usual(picture) likewise. Four more
dimensions, and a fifth that makes all of it positive, write this as the product of two unit vectors again:

    (picture,             1,  −½ usual(picture),  rest(picture),  0,           1) / K
    (text,    −½ usual(text),                 1,  0,              rest(text),  1) / K,    K² = 3.25

of which the rest fills a vector up to length K. So whoever takes cosines takes (1 + fit) / 3.25, and knows nothing of hubs.

Source: Word Translation Without Parallel Data, Conneau et al., 2018, equation 3 (CSLS, there twice as large).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError

EXTRA = 5
"""Dimensions that are added."""
SQUARE = 3.25
"""K²: the unit vector's 1, the two ones', and the largest that a half usual can have, ¼."""


@dataclass(frozen=True)
class Hubs:
    """What is usual, measured on the embeddings of training pairs: pictures (N, D) and texts (N, D), unit vectors."""

    pictures: Tensor
    texts: Tensor
    neighbours: int

    def of_pictures(self, unit: Tensor) -> Tensor:
        """Unit vectors (B, D + 5) of pictures' unit vectors (B, D)."""
        half, one, none, rest = _parts(usual(unit, self.texts, self.neighbours))
        return torch.cat([unit, one, half, rest, none, one], dim=1) / math.sqrt(SQUARE)

    def of_texts(self, unit: Tensor) -> Tensor:
        """Unit vectors (B, D + 5) of texts' unit vectors (B, D)."""
        half, one, none, rest = _parts(usual(unit, self.pictures, self.neighbours))
        return torch.cat([unit, half, one, none, rest, one], dim=1) / math.sqrt(SQUARE)


def usual(unit: Tensor, others: Tensor, neighbours: int) -> Tensor:
    """The mean product (B, 1) of each unit vector (B, D) with the `neighbours` of the others (N, D) that are nearest to it.

    Raises InputError where there are not so many others.
    """
    if not 1 <= neighbours <= len(others):
        raise InputError(f"{neighbours} neighbours cannot be found among {len(others)} training pairs; ask for fewer")
    return (unit @ others.T).topk(neighbours, dim=1).values.mean(1, keepdim=True)


def _parts(found: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is written beside a vector whose usual neighbour is at `found` (B, 1): −½ of it, 1, 0, and what is left up to K."""
    half, one = -found / 2, torch.ones_like(found)
    return half, one, torch.zeros_like(found), (0.25 - half.square()).clamp(min=0).sqrt()
