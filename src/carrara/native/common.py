"""What the operators share: when they serve, and how a tensor is handed to C."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from carrara import native
from carrara.native.library import library

CL = torch.channels_last
DTYPES = (torch.float32, torch.bfloat16)


def serve(x: Tensor) -> bool:
    """Whether the kernels can be used for this tensor, and are wanted."""
    return x.device.type == "cpu" and computed_in(x) in DTYPES and native.current() == "native" and usable()


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype in which an operation on x is computed: autocast's where that is on."""
    if x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def either(operator: Any, plain: Any) -> Any:
    """The operator where torch must know of it, for gradients or a graph; else the function under it, which is called sooner."""
    return operator if torch.is_grad_enabled() or torch.compiler.is_compiling() else plain


def kernels() -> Any:
    """The library, where `usable`."""
    return library()


def coarse(x: Tensor) -> bool:
    """Whether factors are rounded to bfloat16: where x is, and the processor multiplies such numbers faster."""
    return x.dtype == torch.bfloat16 and bool(kernels().carrara_coarse())


def address(tensor: Tensor | None) -> int | None:
    """Where the numbers lie; None for no tensor."""
    return None if tensor is None else tensor.data_ptr()


def last(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """x (B, C, H, W) with its channels last in memory."""
    return x.to(dtype=dtype or x.dtype, memory_format=CL).contiguous(memory_format=CL)


def check(failed: int) -> None:
    """Raises MemoryError where a kernel found no working space."""
    if failed:
        raise MemoryError("there is no memory left for a kernel's working space; use a smaller batch")


@functools.cache
def usable() -> bool:
    """Whether there are kernels, and they compute what they should: tried once on a small convolution."""
    if library() is None:
        return False
    from carrara.native.convolution import convolve

    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, 5, 6, 7, generator=draw), torch.randn(3, 5, 3, 3, generator=draw)
    with torch.autocast("cpu", enabled=False):
        theirs = torch.conv2d(x, w, padding=1)
    return bool(torch.allclose(convolve(last(x), w, None, None), theirs, atol=1e-4))
