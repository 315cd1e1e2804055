"""What the operators share: when they serve, and how a tensor is handed to C."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from carrara import native
from carrara.native.library import OFF, library

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

CL = torch.channels_last
DTYPES = (torch.float32, torch.bfloat16)


def serve(x: Tensor) -> bool:
    """Whether the kernels can be used for this tensor, and are wanted."""
    return x.device.type == "cpu" and computed_in(x) in DTYPES and available()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available() -> bool:
    """Whether kernels are there and chosen, which a graph takes as it was when it was made."""
    return native.current() == "native" and usable()


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype in which an operation on x is computed: autocast's where that is on."""
    if x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


class Kernel(NamedTuple):
    """One operation in the three forms in which it is called."""

    plain: Callable[..., Any]
    """The kernel itself, without gradients."""
    function: Any
    """The same with its gradient: a torch.autograd.Function."""
    operator: CustomOpDef
    """The same as an operator that torch can put into a graph."""

    def __call__(self, *args: Any) -> Any:
        """The kernel's result, in the form that costs least where it is called."""
        if torch.compiler.is_compiling():
            return self.operator(*args)
        return self.function.apply(*args) if torch.is_grad_enabled() else self.plain(*args)


def function(
    plain: Callable[..., Any], context: Callable[..., None], backward: Callable[..., Any]
) -> type[torch.autograd.Function]:
    """A kernel with its gradient, of the parts that torch.library takes too; called sooner than an operator of that.

    The gradient has none of its own: whoever asks for one gets torch's RuntimeError, and no silent zero.
    """

    def forward(ctx: Any, *args: Any) -> Any:
        # In one function: where the context is set up in a second, torch looks at the signature of the first in every call.
        output = plain(*args)
        context(ctx, args, output)
        return output

    parts = {"forward": forward, "backward": once_differentiable(backward)}
    return type(plain.__name__, (torch.autograd.Function,), {key: staticmethod(part) for key, part in parts.items()})


def operator(name: str, plain: Callable[..., Any], schema: str) -> CustomOpDef:
    """A kernel as the torch operator carrara::name, which a graph may hold; its fake and its gradient are still to be told."""
    return torch.library.custom_op(f"carrara::{name}", plain, mutates_args=(), device_types="cpu", schema=schema)


def kernel(
    plain: Callable[..., Any],
    whole: CustomOpDef,
    context: Callable[..., None],
    backward: Callable[..., Callable[..., Any]],
    gradients: Sequence[tuple[Callable[..., Any], CustomOpDef]],
    learnt: Callable[..., Any] | None = None,
) -> Kernel:
    """The Kernel of `plain` and its operator; `backward` makes the way back of the `gradients`, each a kernel and its operator.

    `learnt` is what stands for `plain` where there are gradients, if that is another.
    """
    plains, operators = zip(*gradients, strict=True)
    whole.register_autograd(backward(*operators), setup_context=context)
    return Kernel(plain, function(learnt or plain, context, backward(*plains)), whole)


def kernels() -> Any:
    """The library, where `usable`."""
    return library()


def coarse(x: Tensor) -> int:
    """How factors of products are kept: 0, in float32; where x is bfloat16, so are they, if `factors` says how."""
    return factors() if x.dtype == torch.bfloat16 else 0


@functools.cache
def factors() -> int:
    """How this processor multiplies bfloat16: by matrix tiles, 2; by vectors, 1; not faster than float32, 0.

    CARRARA_NATIVE=vectors leaves the tiles alone.
    """
    most: int = kernels().carrara_coarse()
    return min(most, 1) if os.environ.get(OFF, "").lower() == "vectors" else most


def address(tensor: Tensor | None) -> int | None:
    """Where the numbers lie; None for no tensor."""
    return None if tensor is None else tensor.data_ptr()


def in_float32(vectors: Tensor | None) -> Tensor | None:
    """The same in float32 and without gaps, as the kernels read it; None for no tensor."""
    return None if vectors is None else vectors.float().contiguous()


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
