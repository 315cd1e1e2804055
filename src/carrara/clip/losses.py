"""How badly pictures and texts find each other: a loss for each pair, from the logits of all with all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(logits: Tensor, same: Tensor, own: slice) -> Tensor:
    """The losses (count,) of the pairs `own`: each text among all texts of the batch, and each picture among all pictures.

    logits: (B, B), pictures × texts; same: bool (B, B), True off the diagonal where two pairs are no contrast, because they
    are the same picture or say the same: those are left out. 0 where each finds its own for certain, log B where none is told
    apart.

    Source: Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021, figure 3; InfoNCE,
    Representation Learning with Contrastive Predictive Coding, van den Oord et al., 2018, equation 4.
    """
    left = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)[own]
    of_pictures = F.cross_entropy(left[own], target, reduction="none")
    of_texts = F.cross_entropy(left.T[own], target, reduction="none")
    return (of_pictures + of_texts) / 2


def sigmoid(logits: Tensor, same: Tensor, own: slice) -> Tensor:
    """The same for a yes or no to each picture with each text; the mean over the batch is the paper's.

    Source: Sigmoid Loss for Language Image Pre-Training, Zhai et al., 2023, equation 1.
    """
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1
    each = F.softplus(-sign * logits).masked_fill(same, 0)
    return (each[own].sum(1) + each.T[own].sum(1)) / 2
