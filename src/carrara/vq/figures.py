"""How much an autoencoder leaves of pictures, and how much of its vocabulary it uses."""

from __future__ import annotations

import torch
from torch import Tensor

from carrara.evaluation import fidelity as pictures


def fidelity(media: Tensor, again: Tensor, ids: Tensor, vocab: int) -> dict[str, float]:
    """Figures of pictures (N, C, H, W) beside what they are once they were ids (N, L): mse, psnr and ssim, used and perplexity."""
    return {**pictures.fidelity(media, again), **usage(ids, vocab)}


def usage(ids: Tensor, vocab: int) -> dict[str, float]:
    """used: the share of the vocabulary that occurs; perplexity: e to the entropy of a word, as many as equally frequent ones.

    Both grow with the number of ids, so only figures of equally many compare.
    """
    counts = torch.bincount(ids.flatten(), minlength=vocab).double()
    shares = counts[counts > 0] / counts.sum()
    return {"used": len(shares) / vocab, "perplexity": float(torch.exp(-(shares * shares.log()).sum()))}
