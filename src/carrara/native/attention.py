"""Self-attention over few tokens as a torch operator with its gradient, reading q, k and v where they lie.

Scores are not kept between forward and backward: they are computed again from q and k, as in FlashAttention (Dao et al., 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carrara.native.common import address, check, coarse, in_float32, kernel, kernels, operator

TOKENS = 512
"""With more tokens than these a head's scores no longer fit into a core's cache, and torch's own is used."""


def attended(qkv: Tensor, bias: Tensor | None, turn: Tensor | None, heads: int, prefix: int) -> tuple[Tensor, Tensor]:
    """(softmax(q kᵀ / √D) v, the logarithms of its sums): from (B, N, 3 · heads · D) to (B, N, heads · D) and (B, heads, N).

    bias (3 · heads · D) is added to qkv where given. turn (N, 2, D), float32: what q and k are turned by then, see `ops.turned`.
    Token i sees tokens j < max(prefix, i + 1): `prefix` N or more is all, 0 those up to itself.
    """
    qkv, bias, turn = qkv.contiguous(), in_float32(bias), in_float32(turn)
    (b, n, wide), step = qkv.shape, _step(qkv)
    o, log_sum = qkv.new_empty(b, n, wide // 3), torch.empty(b, heads, n)
    failed = kernels().carrara_attend(
        qkv.data_ptr(), qkv.data_ptr() + step, qkv.data_ptr() + 2 * step, wide, address(bias),
        address(turn), prefix, o.data_ptr(), log_sum.data_ptr(), b, heads, n, wide // 3 // heads,
        qkv.dtype == torch.bfloat16, coarse(qkv), torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return o, log_sum


self_attention_operator = operator(
    "self_attention",
    attended,
    "(Tensor qkv, Tensor? bias, Tensor? turn, int heads, int prefix) -> (Tensor, Tensor)",
)


def gradient(
    qkv: Tensor,
    bias: Tensor | None,
    turn: Tensor | None,
    o: Tensor,
    log_sum: Tensor,
    slope: Tensor,
    heads: int,
    prefix: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of self_attention's qkv and bias, float32, given that of its output."""
    qkv, slope, bias, turn = (
        qkv.contiguous(), slope.to(qkv.dtype).contiguous(), in_float32(bias), in_float32(turn)
    )  # fmt: skip
    (b, n, wide), step, d = qkv.shape, _step(qkv), torch.empty_like(qkv)
    db = torch.empty(wide)
    failed = kernels().carrara_attend_adjoint(
        qkv.data_ptr(), qkv.data_ptr() + step, qkv.data_ptr() + 2 * step, wide, address(bias), address(turn), prefix,
        o.data_ptr(), slope.data_ptr(), log_sum.data_ptr(), d.data_ptr(), d.data_ptr() + step, d.data_ptr() + 2 * step,
        db.data_ptr(), b, heads, n, wide // 3 // heads, qkv.dtype == torch.bfloat16, coarse(qkv),
        torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return d, db


gradient_operator = operator(
    "self_attention_backward",
    gradient,
    "(Tensor qkv, Tensor? bias, Tensor? turn, Tensor o, Tensor log_sum, Tensor slope, int heads, int prefix) -> (Tensor, Tensor)",
)


def _step(qkv: Tensor) -> int:
    """Bytes from q to k and from k to v."""
    return qkv.shape[-1] // 3 * qkv.element_size()


def _context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, turn, ctx.heads, ctx.prefix = inputs
    ctx.save_for_backward(qkv, bias, turn, *output)
    ctx.mark_non_differentiable(output[1])


def _backward_by(gradient: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor | None, ...]]:
    def backward(ctx: Any, slope: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        qkv, bias, turn, o, log_sum = ctx.saved_tensors
        d, db = gradient(qkv, bias, turn, o, log_sum, slope, ctx.heads, ctx.prefix)
        return d, None if bias is None else db.to(bias.dtype), None, None, None

    return backward


self_attention = kernel(attended, self_attention_operator, _context, _backward_by, [(gradient, gradient_operator)])


@self_attention_operator.register_fake
def _(qkv: Tensor, bias: Tensor | None, turn: Tensor | None, heads: int, prefix: int) -> tuple[Tensor, Tensor]:
    b, n, wide = qkv.shape
    return qkv.new_empty(b, n, wide // 3), qkv.new_empty((b, heads, n), dtype=torch.float32)


@gradient_operator.register_fake
def _(qkv: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), qkv.new_empty(qkv.shape[-1], dtype=torch.float32)
