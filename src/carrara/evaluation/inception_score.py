"""The Inception Score: are pictures of something, and of many things, in the eyes of a classifier?

    IS = exp( mean over pictures of KL( p(class | picture) ‖ p(class) ) )

It is 1 where every picture gets the same verdict, and at most the number of classes. It sees no real pictures, so it can tell
nothing of how near samples are to them, and ImageNet's classes say little of pictures that show none of them.

Source: Improved Techniques for Training GANs, Salimans et al., 2016, with its code's customs: 1008 logits without the
last layer's bias, 10 splits in the order given, and the deviation over the splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite

SPLITS = 10


@dataclass(frozen=True)
class InceptionScore:
    """The mean of the score over splits of the pictures and its standard deviation between them, with n and the splits."""

    value: float
    deviation: float
    n: int
    splits: int


def inception_score(logits: Tensor, splits: int = SPLITS) -> InceptionScore:
    """The InceptionScore of logits (N, classes), N ≥ splits ≥ 1, such as `InceptionFeatures.logits` gives.

    A score rises with the pictures in a split: compare at equal n and splits. The deviation (of all, not a sample's: 0
    with one split) is what the field prints behind ±; it is no interval.
    Raises InputError for fewer pictures, NonFinite where logits are not finite.
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise InputError(
            f"{splits} splits need logits (N, classes) with N at least {splits}; got {tuple(logits.shape)}"
        )
    if not torch.isfinite(logits).all():
        raise NonFinite("logits hold NaN or infinity: the network that made them, or its input, is broken")
    scores = torch.stack([_score(part) for part in logits.double().log_softmax(1).tensor_split(splits)])
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)), len(logits), splits)


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    marginal = p.mean(0)
    # What no picture gives any probability counts 0, not 0 · log 0.
    log_marginal = marginal.clamp_min(torch.finfo(marginal.dtype).tiny).log()
    return (p * (log_p - log_marginal)).sum(1).mean().exp()
