"""Muon: matrices are moved by their momentum, its directions all made equally strong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from itertools import groupby
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

ROUNDS = 3
"""Polynomials, one after the other, that make a matrix orthogonal."""
LEAST = 0.01
"""The least singular value, of a matrix whose largest is about 1, that they bring near 1."""
SPARE = 1.02
"""By how much bfloat16 may take a singular value above what it would be: the polynomials are steep there."""
LENGTH = 0.2
"""The root mean square of a step at a learning rate of 1: AdamW's, by experience."""


class Muon(torch.optim.Optimizer):
    """Moves matrices (m, n) by lr·0.2·√max(m, n) times their Nesterov momentum made orthogonal: as far as AdamW would.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; the length: Liu et al., Muon is Scalable
    for LLM Training, 2025, section 2.2. It is torch.optim.Muon, with matrices of one form together and with three rounds of other
    polynomials in place of five, for about half of the time.
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Moves every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for _, alike in groupby(sorted(moved, key=_form), _form):
                self._move(list(alike), group)
        return loss

    def _move(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        buffers = [self._remembered(matrix) for matrix in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch.stack(gradients).lerp_(torch.stack(buffers), group["momentum"])
        steps = orthogonal(ahead).to(matrices[0].dtype).unbind()
        length = LENGTH * math.sqrt(max(matrices[0].shape))
        if group["weight_decay"]:
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, steps, alpha=-group["lr"] * length)

    def _remembered(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _form(matrix: Tensor) -> tuple[str, str, tuple[int, ...]]:
    return str(matrix.device), str(matrix.dtype), tuple(matrix.shape)


def orthogonal(matrices: Tensor, rounds: int = ROUNDS, least: float = LEAST) -> Tensor:
    """(k, m, n) with the singular values of each brought near 1, its singular vectors as they are; in bfloat16.

    What is smaller than `least` of a matrix's largest singular value is made larger, but not by so much. No matrix changes another;
    zeros stay zeros.

    Each round is X ← aX + (bA + cA²)X with A = XXᵀ, an odd polynomial of the singular values. Before the first, they are divided by
    a bound of the largest, ‖XXᵀ‖^½ (Frobenius), which is never above ‖X‖ and close for what is nearly of low rank.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT, rounds, least).mT
    x = (matrices * _measure(matrices)).bfloat16()
    norm = x.flatten(1).norm(dim=1, dtype=torch.float32).clamp(min=1e-18)[:, None, None]
    gram = (x @ x.mT) / norm**2
    bound = gram.flatten(1).norm(dim=1).clamp(min=1e-9)[:, None, None]
    x, gram = x * (1 / (norm * bound.sqrt())).bfloat16(), (gram / bound).bfloat16()
    for turn, (a, b, c) in enumerate(polynomials(rounds, least)):
        gram = x @ x.mT if turn else gram
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _measure(matrices: Tensor) -> Tensor:
    """(k, 1, 1): for each matrix the power of 2 that brings its largest number to between a half and 1.

    So no product of two is too small for floating point, and what is rounded is rounded as it would be without.
    """
    largest = matrices.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(matrices.dtype).tiny)
    return torch.frexp(largest).mantissa / largest


@cache
def polynomials(rounds: int, least: float) -> tuple[tuple[float, float, float], ...]:
    """The (a, b, c) of each round: all at once they bring what is in [least, 1] as near to 1 as so many rounds can.

    Source: Amsel et al., The Polar Express, 2025: the best for what the round before left, each.
    """
    found, low, high = [], least, SPARE
    for _ in range(rounds):
        (a, b, c), error = _nearest_one(low, high)
        found.append((a, b, c))
        low, high = 1 - error, SPARE * (1 + error)
    return tuple(found)


def _nearest_one(low: float, high: float) -> tuple[tuple[float, float, float], float]:
    """The odd polynomial ax + bx³ + cx⁵ that is nearest 1 between these, and its largest error: Remez's exchange."""
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    for _ in range(20):
        x = np.array([low, *inner, high])
        a, b, c, error = np.linalg.solve(np.stack([x, x**3, x**5, np.array([1, -1, 1, -1])], 1), np.ones(4))
        root = math.sqrt(9 * b * b - 20 * a * c)
        inner = np.sqrt(np.array([-3 * b - root, -3 * b + root]) / (10 * c))
    return (float(a), float(b), float(c)), float(error)
