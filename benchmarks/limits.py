"""What the machine can do at most: products of matrices, convolutions and copies, the best of several sizes and rounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.timing import interleaved, rate

SIDES = (1024, 2048, 4096)
"""Of square matrices."""
CONVOLUTIONS = ((32, 64, 32), (32, 128, 16), (32, 256, 8), (64, 256, 16))
"""Batch, channels and side of 3×3 convolutions."""
COPIED = 1 << 28
"""Bytes."""
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}

Work = tuple[float, Callable[[], Any]]
"""How much is done in a call, in operations or bytes, and the call."""


def limits(rounds: int, least_s: float = 0.2) -> dict[str, float]:
    """GFLOP/s by name of operation and dtype, a multiply-add counted as two; and copying, GB/s read and written."""
    work = everything()
    found = interleaved({name: call for name, (_, call) in work.items()}, rounds, least_s)
    best: dict[str, float] = {}
    for name, (amount, _) in work.items():
        kind = name.partition(" of ")[0]
        best[kind] = max(best.get(kind, 0.0), amount * found[name].most / 1e9)
    return {kind: float(f"{value:.4g}") for kind, value in best.items()}


def peak(least_s: float = 0.1) -> float:
    """GFLOP/s of bf16 matrix products at this moment, the best of the sizes: what shares are taken of."""
    work = [product(side, DTYPES["bf16"]) for side in SIDES]
    return max(amount * rate(call, least_s) for amount, call in work) / 1e9


def everything() -> dict[str, Work]:
    """All that is timed; what stands before " of " in a name is what the best is taken over."""
    work: dict[str, Work] = {}
    for name, dtype in DTYPES.items():
        work |= {f"matrix product {name} of {side}": product(side, dtype) for side in SIDES}
        work |= {f"convolution {name} of {shape}": convolution(*shape, dtype) for shape in CONVOLUTIONS}
    return work | {"copy of memory": copy()}


@cache
def product(side: int, dtype: torch.dtype) -> Work:
    """Square matrices multiplied."""
    a, b = (torch.randn(side, side, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
    return 2.0 * side**3, partial(torch.mm, a, b, out=torch.empty_like(a))


def convolution(batch: int, channels: int, side: int, dtype: torch.dtype) -> Work:
    """A 3×3 convolution that keeps the shape."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, side, side, generator=rng).to(dtype)
    weight = torch.randn(channels, channels, 3, 3, generator=rng).to(dtype)
    return 2.0 * batch * side**2 * channels**2 * 9, partial(quietly, F.conv2d, x, weight, padding=1)


def copy() -> Work:
    """Memory copied; what is read and what is written count."""
    source = torch.zeros(COPIED, dtype=torch.uint8)
    return 2.0 * COPIED, partial(torch.empty_like(source).copy_, source)


@torch.no_grad()
def quietly(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The call's result, without gradients."""
    return call(*args, **options)
