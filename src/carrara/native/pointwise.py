"""What comes after a matrix product, with the product's bias, as torch operators with gradients: SiLU, and a sum through a gate.

A bias that is added here costs nothing; added by the product itself it costs a fifth of the product (oneDNN, bfloat16). Tokens are
(B, N, C), float32 or bfloat16; what is inside is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carrara.native.common import address, check, in_float32, kernel, kernels, operator


def computed_silu(x: Tensor, bias: Tensor) -> Tensor:
    """SiLU(x + bias) for x (..., C) and bias (C)."""
    x, bias = x.contiguous(), bias.float().contiguous()
    y, c = torch.empty_like(x), len(bias)
    kernels().carrara_silu(
        x.data_ptr(), bias.data_ptr(), y.data_ptr(), x.numel() // c, c, x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )  # fmt: skip
    return y


silu_operator = operator("silu", computed_silu, "(Tensor x, Tensor bias) -> Tensor")


def silu_gradient(x: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of silu's x and bias, the second float32."""
    x, dy, bias = x.contiguous(), dy.to(x.dtype).contiguous(), bias.float().contiguous()
    dx, db, c = torch.empty_like(x), torch.empty_like(bias), len(bias)
    failed = kernels().carrara_silu_adjoint(
        x.data_ptr(), bias.data_ptr(), dy.data_ptr(), dx.data_ptr(), db.data_ptr(), x.numel() // c, c,
        x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return dx, db


silu_gradient_operator = operator(
    "silu_backward", silu_gradient, "(Tensor x, Tensor bias, Tensor dy) -> (Tensor, Tensor)"
)


def _silu_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _silu_backward(gradient: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, bias = ctx.saved_tensors
        dx, db = gradient(x, bias, dy)
        return dx, db.to(bias.dtype)

    return backward


silu = kernel(computed_silu, silu_operator, _silu_context, _silu_backward, [(silu_gradient, silu_gradient_operator)])


def computed_gated(x: Tensor, gate: Tensor | None, branch: Tensor, bias: Tensor | None) -> Tensor:
    """x + gate · (branch + bias) for tokens x and branch (B, N, C), gate (B, C) and bias (C); no gate is 1, no bias 0."""
    x, branch = x.contiguous(), branch.to(x.dtype).contiguous()
    gate, bias, y = in_float32(gate), in_float32(bias), torch.empty_like(x)
    kernels().carrara_gated(
        x.data_ptr(), address(gate), branch.data_ptr(), address(bias), y.data_ptr(), *x.shape,
        x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    return y


gated_operator = operator(
    "gated",
    computed_gated,
    "(Tensor x, Tensor? gate, Tensor branch, Tensor? bias) -> Tensor",
)


def gated_gradient(
    gate: Tensor | None, branch: Tensor, bias: Tensor | None, dy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of gated's gate (B, C), float32, branch and bias (C), float32, the first and the last also where not given."""
    dy, branch, gate, bias = dy.contiguous(), branch.to(dy.dtype).contiguous(), in_float32(gate), in_float32(bias)
    b, _, c = dy.shape
    dgate, dbranch, db = torch.empty(b, c), torch.empty_like(branch), torch.empty(b, c)
    kernels().carrara_gated_adjoint(
        address(gate), branch.data_ptr(), address(bias), dy.data_ptr(), dgate.data_ptr(), dbranch.data_ptr(),
        db.data_ptr(), *dy.shape, dy.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    return dgate, dbranch, db.sum(0)


gated_gradient_operator = operator(
    "gated_backward",
    gated_gradient,
    "(Tensor? gate, Tensor branch, Tensor? bias, Tensor dy) -> (Tensor, Tensor, Tensor)",
)


def _gated_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _gated_backward(gradient: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, branch, bias = ctx.saved_tensors
        dgate, dbranch, db = gradient(gate, branch, bias, dy)
        return (
            dy,
            None if gate is None else dgate.to(gate.dtype),
            dbranch.to(branch.dtype),
            None if bias is None else db.to(bias.dtype),
        )

    return backward


gated = kernel(
    computed_gated,
    gated_operator,
    _gated_context,
    _gated_backward,
    [(gated_gradient, gated_gradient_operator)],
)


@silu_operator.register_fake
def _(x: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(x)


@silu_gradient_operator.register_fake
def _(x: Tensor, bias: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(bias, dtype=torch.float32)


@gated_operator.register_fake
def _(x: Tensor, gate: Tensor | None, branch: Tensor, bias: Tensor | None) -> Tensor:
    return torch.empty_like(x)


@gated_gradient_operator.register_fake
def _(gate: Tensor | None, branch: Tensor, bias: Tensor | None, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    sums = dy.new_empty((len(dy), dy.shape[-1]), dtype=torch.float32)
    return sums, torch.empty_like(branch, dtype=dy.dtype), sums.new_empty(dy.shape[-1])
