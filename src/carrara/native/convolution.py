"""3×3 convolution with a border of one, by Winograd's F(4×4, 3×3) or by matrix tiles, as a torch operator with its gradients.

Pictures are (B, C, H, W) with channels last in memory, float32 or bfloat16; weights are float32. In float32 the result equals
torch's to float32's rounding. In bfloat16 the factors are rounded after Winograd's transform: the result is within about 1 %
(root mean square) of the exact one, where torch's own in bfloat16 is within 0.25 %; by matrix tiles, which
need no transform, it is as torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carrara.native.common import CL, address, check, coarse, kernel, kernels, last, operator

TILES = 24
"""In training a convolution of fewer tiles of 4×4 pixels is better left to torch: transforming weights that change with every step
would cost more than it saves."""
KEPT = "_carrara_packed"
MANY = {torch.float32: 32, torch.bfloat16: 512}
"""With as many tiles, transforming the weights anew costs a few per cent of an evaluation, and four times their memory, in float32
twice that of bfloat16, is not held for it."""


def worth(x: Tensor) -> bool:
    """Whether a convolution of x (B, C, H, W) is faster here: in evaluation always, as weights are transformed once."""
    return not torch.is_grad_enabled() or tiles(x) >= TILES


def tiles(x: Tensor) -> int:
    """The tiles of 4×4 pixels of x (B, C, H, W)."""
    return len(x) * -(-x.shape[-2] // 4) * -(-x.shape[-1] // 4)


def packed(weight: Tensor, rough: int, back: bool, keep: bool) -> Tensor:
    """The weights (K, C, 3, 3) as the products read them; `back`: for the gradient of the input.

    Where asked they are kept with the weights until those change or many tiles come, so that a network that is evaluated many times
    transforms them once; in one precision, the last that was asked for.
    """
    content = _content(weight, rough) if keep else None
    kept = getattr(weight, KEPT, None)
    if keep and kept is not None and kept[0] == content:
        found: Tensor = kept[1]
        return found
    if kept is not None and not back:
        delattr(weight, KEPT)
    made = _pack(weight.detach().float(), rough, back)
    if keep:
        setattr(weight, KEPT, (content, made))
    return made


def _content(weight: Tensor, rough: int) -> tuple[int, int, tuple[int, ...]]:
    """What the weights are, as a sum of bits and places: torch's count of changes misses those of fused optimisers."""
    dense = weight.detach().contiguous()
    words = dense.numel() * dense.element_size() // 4
    return rough, kernels().carrara_bits(dense.data_ptr(), words, torch.get_num_threads()), weight.stride()


def _pack(weight: Tensor, rough: int, back: bool) -> Tensor:
    to, of = (weight.shape[1], weight.shape[0]) if back else (weight.shape[0], weight.shape[1])
    k, c, i, j = weight.stride()
    strides = (c, k, -i, -j) if back else (k, c, i, j)
    first = weight.data_ptr() + (4 * 2 * (i + j) if back else 0)
    words = kernels().carrara_packed(of, to, rough)
    made = torch.empty(words, dtype=torch.int32)
    kernels().carrara_pack(first, *strides, made.data_ptr(), of, to, rough, torch.get_num_threads())
    return made


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None, back: bool = False, keep: bool = False
) -> Tensor:
    """x (B, C, H, W) by the weights, or by their transpose for the way back; keep: the transformed weights, for the next time."""
    b, c, h, w = x.shape
    k, half, rough = weight.shape[1 if back else 0], x.dtype == torch.bfloat16, coarse(x)
    y = torch.empty((b, k, h, w), dtype=x.dtype, memory_format=CL)
    if not y.numel():
        return y
    weights = packed(weight, rough, back, keep)
    failed = kernels().carrara_convolve(
        x.data_ptr(), weights.data_ptr(), address(bias), address(more), y.data_ptr(),
        b, h, w, c, k, half, rough, torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return y


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None) -> Tensor:
    """x (B, C, H, W) convolved with weight (K, C, 3, 3), border 1, + bias (K) + more (B, K, H, W), those two where given."""
    return _convolved(x, weight, bias, more, keep=tiles(x) < MANY[x.dtype])


def learnt(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None) -> Tensor:
    """The same where weights change with every step, and nothing is kept of them."""
    return _convolved(x, weight, bias, more, keep=False)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None, keep: bool) -> Tensor:
    more = None if more is None else last(more, x.dtype)
    return convolve(last(x), weight, None if bias is None else bias.detach().float(), more, keep=keep)


conv3x3_operator = operator(
    "conv3x3",
    convolved,
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? more) -> Tensor",
)


def input_gradient(dy: Tensor, weight: Tensor) -> Tensor:
    """The gradient of conv3x3's x."""
    return convolve(last(dy), weight, None, None, back=True)


input_gradient_operator = operator(
    "conv3x3_input",
    input_gradient,
    "(Tensor dy, Tensor weight) -> Tensor",
)


def weight_gradient(x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of conv3x3's weight (K, C, 3, 3) and bias (K), float32."""
    x, dy = last(x), last(dy, x.dtype)
    (b, c, h, w), k = x.shape, dy.shape[1]
    if not x.numel():
        return torch.zeros(k, c, 3, 3), torch.zeros(k)
    dw, db = torch.empty(k, c, 3, 3), torch.empty(k)
    failed = kernels().carrara_weights(
        x.data_ptr(), dy.data_ptr(), dw.data_ptr(), db.data_ptr(), b, h, w, c, k, x.dtype == torch.bfloat16, coarse(x),
        torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return dw, db


weight_gradient_operator = operator(
    "conv3x3_weight",
    weight_gradient,
    "(Tensor x, Tensor dy) -> (Tensor, Tensor)",
)


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, more = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias, ctx.more = bias is not None and bias.dtype, more is not None and more.dtype


def _backward_by(
    for_input: Callable[[Tensor, Tensor], Tensor], for_weights: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Callable[..., tuple[Tensor | None, ...]]:
    """The way back, its two convolutions computed by these."""

    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        dx = for_input(dy.to(x.dtype), weight).to(x.dtype) if wanted[0] else None
        dw, db = for_weights(x, dy) if wanted[1] or wanted[2] else (None, None)
        if dw is not None and db is not None:
            dw, db = dw.to(weight.dtype) if wanted[1] else None, db.to(ctx.bias) if wanted[2] else None
        return dx, dw, db, dy.to(ctx.more) if wanted[3] else None

    return backward


conv3x3 = kernel(
    convolved,
    conv3x3_operator,
    _context,
    _backward_by,
    [(input_gradient, input_gradient_operator), (weight_gradient, weight_gradient_operator)],
    learnt,
)


@conv3x3_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None) -> Tensor:
    return x.new_empty((len(x), len(weight), *x.shape[2:])).to(memory_format=CL)


@input_gradient_operator.register_fake
def _(dy: Tensor, weight: Tensor) -> Tensor:
    return dy.new_empty((len(dy), weight.shape[1], *dy.shape[2:])).to(memory_format=CL)


@weight_gradient_operator.register_fake
def _(x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    k, c = dy.shape[1], x.shape[1]
    return x.new_empty((k, c, 3, 3), dtype=torch.float32), x.new_empty(k, dtype=torch.float32)
