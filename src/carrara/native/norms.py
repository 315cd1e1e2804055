"""GroupNorm, LayerNorm and RMS norm with a scale and a shift for each sample, as torch operators with gradients.

Pictures are (B, C, H, W) with channels last in memory, tokens (B, N, C), float32 or bfloat16; what is inside is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from carrara.native.common import CL, check, kernel, kernels, last, operator


def computed_group_norm(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / std): x (B, C, H, W) normalised over its groups, · scale + shift, (B, C) or (C), then SiLU where asked."""
    x, scale, shift = last(x), scale.float().contiguous(), shift.float().contiguous()
    b, c, h, w = x.shape
    y, mean, rstd = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    failed = kernels().carrara_group_norm(
        x.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, y.data_ptr(), mean.data_ptr(),
        rstd.data_ptr(), b, h * w, c, groups, eps, silu, x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return y, mean, rstd


group_norm_operator = operator(
    "group_norm",
    computed_group_norm,
    "(Tensor x, Tensor scale, Tensor shift, int groups, float eps, bool silu) -> (Tensor, Tensor, Tensor)",
)


def group_norm_gradient(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor, groups: int, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of group_norm's x (B, C, H, W), scale and shift, the last two (B, C)."""
    x, dy, scale, shift = last(x), last(dy, x.dtype), scale.float().contiguous(), shift.float().contiguous()
    b, c, h, w = x.shape
    dx, dscale, dshift = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    failed = kernels().carrara_group_norm_adjoint(
        x.data_ptr(), dy.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, mean.data_ptr(),
        rstd.data_ptr(), dx.data_ptr(), dscale.data_ptr(), dshift.data_ptr(), b, h * w, c, groups, silu,
        x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    check(failed)
    return dx, dscale, dshift


group_norm_gradient_operator = operator(
    "group_norm_backward",
    group_norm_gradient,
    "(Tensor x, Tensor dy, Tensor scale, Tensor shift, Tensor mean, Tensor rstd, int groups, bool silu)"
    " -> (Tensor, Tensor, Tensor)",
)


def computed_layer_norm(
    x: Tensor, scale: Tensor, shift: Tensor, eps: float, centred: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / std): tokens x (B, N, C) normalised over their channels, · scale + shift, (B, C) or (C).

    Not `centred`: the mean is taken for 0, which is RMS norm.
    """
    x, scale, shift = x.contiguous(), scale.float().contiguous(), shift.float().contiguous()
    b, n, c = x.shape
    y, mean, rstd = torch.empty_like(x), torch.empty(b, n), torch.empty(b, n)
    kernels().carrara_layer_norm(
        x.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, y.data_ptr(), mean.data_ptr(),
        rstd.data_ptr(), b, n, c, eps, centred, x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    return y, mean, rstd


layer_norm_operator = operator(
    "layer_norm",
    computed_layer_norm,
    "(Tensor x, Tensor scale, Tensor shift, float eps, bool centred) -> (Tensor, Tensor, Tensor)",
)


def layer_norm_gradient(
    x: Tensor, dy: Tensor, scale: Tensor, mean: Tensor, rstd: Tensor, centred: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of layer_norm's x (B, N, C), scale and shift, the last two (B, C)."""
    x, dy, scale = x.contiguous(), dy.to(x.dtype).contiguous(), scale.float().contiguous()
    b, n, c = x.shape
    dx, dscale, dshift = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    kernels().carrara_layer_norm_adjoint(
        x.data_ptr(), dy.data_ptr(), scale.data_ptr(), c if scale.ndim == 2 else 0, mean.data_ptr(), rstd.data_ptr(),
        dx.data_ptr(), dscale.data_ptr(), dshift.data_ptr(), b, n, c, centred, x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )  # fmt: skip
    return dx, dscale, dshift


layer_norm_gradient_operator = operator(
    "layer_norm_backward",
    layer_norm_gradient,
    "(Tensor x, Tensor dy, Tensor scale, Tensor mean, Tensor rstd, bool centred) -> (Tensor, Tensor, Tensor)",
)


def _group_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, ctx.groups, _, ctx.silu = inputs
    ctx.save_for_backward(x, scale, shift, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _group_norm_backward(gradient: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, rstd = ctx.saved_tensors
        dx, dscale, dshift = gradient(x, dy, scale, shift, mean, rstd, ctx.groups, ctx.silu)
        return dx, _like(dscale, scale), _like(dshift, shift), None, None, None

    return backward


def _layer_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, _, ctx.centred = inputs
    ctx.save_for_backward(x, scale, shift, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _layer_norm_backward(gradient: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, rstd = ctx.saved_tensors
        dx, dscale, dshift = gradient(x, dy, scale, mean, rstd, ctx.centred)
        return dx, _like(dscale, scale), _like(dshift, shift), None, None

    return backward


group_norm = kernel(
    computed_group_norm,
    group_norm_operator,
    _group_norm_context,
    _group_norm_backward,
    [(group_norm_gradient, group_norm_gradient_operator)],
)
layer_norm = kernel(
    computed_layer_norm,
    layer_norm_operator,
    _layer_norm_context,
    _layer_norm_backward,
    [(layer_norm_gradient, layer_norm_gradient_operator)],
)


@group_norm_operator.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x, memory_format=CL), sums, torch.empty_like(sums)


@group_norm_gradient_operator.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x, memory_format=CL), sums, torch.empty_like(sums)


@layer_norm_operator.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, eps: float, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x), sums, torch.empty_like(sums)


@layer_norm_gradient_operator.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty((len(x), x.shape[-1]), dtype=torch.float32)
    return torch.empty_like(x), sums, torch.empty_like(sums)


def _like(sums: Tensor, of: Tensor) -> Tensor:
    """A gradient (B, C) for a parameter of (B, C) or (C)."""
    return (sums if of.ndim == 2 else sums.sum(0)).to(of.dtype)
