"""The choice of points of Winograd's convolution, in plain arithmetic: right for any, and how much bfloat16 factors lose."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

OURS, USUAL = (0.75, 1.5), (1.0, 2.0)


def transforms(a: float, b: float) -> tuple[Tensor, Tensor, Tensor]:
    """Aᵀ (4, 6), G (6, 3) and Bᵀ (6, 6) for the points 0, ±a, ±b and infinity, from what they must do: Toom and Cook's way."""
    points = [0.0, a, -a, b, -b]
    evaluated = np.array([[x**i for x in points] + [float(i == 3)] for i in range(4)])
    scale = [np.prod([x - y for y in points if y != x]) for x in points]
    filtered = np.array([[x**i / s for i in range(3)] for x, s in zip(points, scale, strict=True)] + [[0, 0, 1]])
    rows = [np.poly([y for y in points if y != x])[::-1] for x in points]
    entered = np.array([[*row, 0.0] for row in rows] + [np.poly(points)[::-1]])
    return torch.tensor(evaluated), torch.tensor(filtered), torch.tensor(entered)


def convolved(d: Tensor, w: Tensor, points: Sequence[float], coarse: bool) -> Tensor:
    """Tiles d (T, C, 6, 6) by filters w (K, C, 3, 3): (T, K, 4, 4), the factors rounded to bfloat16 where coarse."""
    at, g, bt = transforms(*points)
    v = torch.einsum("ai,tcij,bj->tcab", bt, d, bt)
    u = torch.einsum("ai,kcij,bj->kcab", g, w, g)
    if coarse:
        u, v = u.bfloat16().double(), v.bfloat16().double()
    return torch.einsum("ia,tkab,jb->tkij", at, torch.einsum("tcab,kcab->tkab", v, u), at)


def data() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    d = F.silu(torch.randn(64, 64, 6, 6, generator=rng, dtype=torch.float64))
    return d.bfloat16().double(), torch.randn(64, 64, 3, 3, generator=rng, dtype=torch.float64) / 24


def lost(points: Sequence[float]) -> float:
    d, w = data()
    exact = F.conv2d(d, w)
    return float((convolved(d, w, points, True) - exact).norm() / exact.norm())


@pytest.mark.parametrize("points", [OURS, USUAL, (0.5, 3.0)])
def test_any_points_give_the_convolution(points: tuple[float, float]) -> None:
    d, w = data()
    torch.testing.assert_close(convolved(d, w, points, False), F.conv2d(d, w), rtol=1e-10, atol=1e-10)


def test_ours_lose_half_of_what_the_usual_points_lose() -> None:
    assert 0.005 < lost(OURS) < 0.6 * lost(USUAL)
