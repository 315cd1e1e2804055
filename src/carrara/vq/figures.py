"""How much an autoencoder leaves of pictures, and how much of its vocabulary it uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fidelity(media: Tensor, again: Tensor, ids: Tensor, vocab: int) -> dict[str, float]:
    """Figures of pictures (N, C, H, W) beside what they are once they were ids (N, L): mse and psnr, used and perplexity."""
    return {"mse": mse(media, again), "psnr": psnr(mse(media, again)), **usage(ids, vocab)}


def mse(one: Tensor, other: Tensor) -> float:
    """The mean squared difference of uint8 pictures, whose pixels go from 0 to 1."""
    return float((one.double() - other.double()).div(255).square().mean())


def psnr(squared: float) -> float:
    """−10 log10 of a mean squared error of pixels from 0 to 1, in decibels; infinite for none."""
    return math.inf if squared == 0 else -10 * math.log10(squared)


def usage(ids: Tensor, vocab: int) -> dict[str, float]:
    """used: the share of the vocabulary that occurs; perplexity: e to the entropy of a word, as many as equally frequent ones.

    Both grow with the number of ids, so only figures of equally many compare.
    """
    counts = torch.bincount(ids.flatten(), minlength=vocab).double()
    shares = counts[counts > 0] / counts.sum()
    return {"used": len(shares) / vocab, "perplexity": float(torch.exp(-(shares * shares.log()).sum()))}
