"""Where heads may begin: at the directions in which pictures and their texts agree most, found at once and not step by step.

Of standard features X (N, D) and Y (N, T) of N pairs, regularised canonical correlation analysis looks for directions of which
the pictures' and the texts' coordinates correlate. With C_xx = XᵀX / N and so on, and the singular values of

    (C_xx + λ_x)^−½ C_xy (C_yy + λ_y)^−½ = A diag(c) Bᵀ,

pictures are mapped by diag(c) Aᵀ (C_xx + λ_x)^−½ and texts by diag(c) Bᵀ (C_yy + λ_y)^−½: the more a direction correlates, the more
it counts. λ is a share of all the variance of a side; without it, where features are more than pairs, everything correlates.

Source: Canonical ridge and econometrics of joint production, Vinod, 1976, for the ridge; A Multi-View Embedding Space for Modeling
Internet Images, Tags, and their Semantics, Gong et al., 2014, section 3.3, for correlations as weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RANK = 1e-8
"""Of the largest variance, the share that a direction must have to be one."""


class Side(NamedTuple):
    """One side's features, divided by √N, as directions of pairs: features = rows · diag(lengths) · an orthonormal basis."""

    features: Tensor
    rows: Tensor
    lengths: Tensor
    damped: Tensor
    """√(lengths² + λ)."""


def starts(pictures: Tensor, texts: Tensor, dim: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights (dim, D) and (dim, T) of linear maps for standard features (N, D) and (N, T), float32.

    ridge: λ as a share of a side's whole variance, positive. A row's square is a third on the mean, as of weights that torch
    draws. Where the pairs have fewer than `dim` directions, the last rows are 0.
    """
    one, other = _side(pictures, ridge), _side(texts, ridge)
    shrunk = (one.rows * (one.lengths / one.damped)).T @ (other.rows * (other.lengths / other.damped))
    mine, agreement, theirs = torch.linalg.svd(shrunk, full_matrices=False)
    return _weights(one, mine * agreement, dim), _weights(other, theirs.T * agreement, dim)


def _side(features: Tensor, ridge: float) -> Side:
    """Found from the products of pairs (N, N), which are fewer than those of features."""
    scaled = features.double() / len(features) ** 0.5
    squares, rows = torch.linalg.eigh(scaled @ scaled.T)
    held = squares > RANK * squares[-1]
    squares = squares[held]
    return Side(scaled, rows[:, held], squares.sqrt(), (squares + ridge * squares.sum()).sqrt())


def _weights(side: Side, directions: Tensor, dim: int) -> Tensor:
    """Directions (R, K) among a side's own as weights (dim, D) of its features."""
    found = (side.features.T @ (side.rows @ (directions[:, :dim] / (side.lengths * side.damped)[:, None]))).T
    found = found / (3 * found.square().sum(1).mean()).sqrt()
    whole = found.new_zeros(dim, found.shape[1])
    whole[: len(found)] = found
    return whole.float()
