"""The kernels as torch operators with gradients: 3×3 convolution, GroupNorm and LayerNorm.

Pictures are (B, C, H, W) with channels last in memory, tokens (B, N, C), float32 or bfloat16; parameters are float32. In float32 the
results equal torch's to float32's rounding. In bfloat16 a convolution's factors are rounded after Winograd's transform: its result is
within about 1 % (root mean square) of the exact one, where torch's own bfloat16 is within 0.25 %.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from carrara import native
from carrara.native.library import library

CL = torch.channels_last
DTYPES = (torch.float32, torch.bfloat16)
TILES = 24
"""A convolution of fewer tiles of 4×4 pixels is torch's: transforming its weights would cost more than it saves."""


def serve(x: Tensor) -> bool:
    """Whether the kernels can be used for this tensor, and are wanted."""
    return x.device.type == "cpu" and computed_in(x) in DTYPES and native.wanted() and usable()


def computed_in(x: Tensor) -> torch.dtype:
    """The dtype in which an operation on x is computed: autocast's where that is on."""
    if x.is_floating_point() and x.dtype != torch.float64 and torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return x.dtype


def tiles(x: Tensor) -> int:
    """The number of tiles of 4×4 pixels in a batch of pictures."""
    return len(x) * -(-x.shape[-2] // 4) * -(-x.shape[-1] // 4)


@functools.cache
def usable() -> bool:
    """Whether there are kernels, and they compute what they should: tried once on a small convolution."""
    if library() is None:
        return False
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, 5, 6, 7, generator=draw), torch.randn(3, 5, 3, 3, generator=draw)
    mine, theirs = _convolve(x.contiguous(memory_format=CL), w, None, None), torch.conv2d(x, w, padding=1)
    return bool(torch.allclose(mine, theirs, atol=1e-4))


# ---------------------------------------------------------------------------------------------------- convolution


def packed(weight: Tensor, coarse: bool, back: bool) -> Tensor:
    """The weights (K, C, 3, 3) as the products read them; `back`: for the gradient of the input.

    Kept with the weights until they change, so that a network that is evaluated many times transforms them once.
    """
    name = f"_carrara_packed_{coarse:d}{back:d}"
    version = (weight._version, weight.data_ptr())
    kept = getattr(weight, name, None)
    if kept is not None and kept[0] == version:
        found: Tensor = kept[1]
        return found
    made = _pack(weight.detach().float(), coarse, back)
    setattr(weight, name, (version, made))
    return made


def _pack(weight: Tensor, coarse: bool, back: bool) -> Tensor:
    to, of = (weight.shape[1], weight.shape[0]) if back else (weight.shape[0], weight.shape[1])
    k, c, i, j = weight.stride()
    strides = (c, k, -i, -j) if back else (k, c, i, j)
    first = weight.data_ptr() + (4 * 2 * (i + j) if back else 0)
    words = _library().carrara_packed(of, to, coarse)
    made = torch.empty(words, dtype=torch.int32)
    _library().carrara_pack(first, *strides, made.data_ptr(), of, to, coarse, torch.get_num_threads())
    return made


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None, back: bool = False) -> Tensor:
    """x (B, C, H, W) by the weights, or by their transpose for the way back."""
    b, c, h, w = x.shape
    k, half, coarse = weight.shape[1 if back else 0], x.dtype == torch.bfloat16, _coarse(x)
    y = torch.empty((b, k, h, w), dtype=x.dtype, memory_format=CL)
    weights = packed(weight, coarse, back)
    failed = _library().carrara_convolve(
        x.data_ptr(), weights.data_ptr(), _address(bias), _address(more), y.data_ptr(),
        b, h, w, c, k, half, coarse, torch.get_num_threads(),
    )  # fmt: skip
    _check(failed)
    return y


@torch.library.custom_op(
    "carrara::conv3x3",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor? more) -> Tensor",
)
def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None) -> Tensor:
    """x (B, C, H, W) convolved with weight (K, C, 3, 3), border 1, + bias (K) + more (B, K, H, W), those two where given."""
    more = None if more is None else _last(more, x.dtype)
    return _convolve(_last(x), weight, None if bias is None else bias.detach().float(), more)


@torch.library.custom_op(
    "carrara::conv3x3_input",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor dy, Tensor weight) -> Tensor",
)
def conv3x3_input(dy: Tensor, weight: Tensor) -> Tensor:
    """The gradient of conv3x3's x."""
    return _convolve(_last(dy), weight, None, None, back=True)


@torch.library.custom_op(
    "carrara::conv3x3_weight",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor dy) -> Tensor",
)
def conv3x3_weight(x: Tensor, dy: Tensor) -> Tensor:
    """The gradient of conv3x3's weight, float32 (K, C, 3, 3)."""
    x, dy = _last(x), _last(dy, x.dtype)
    (b, c, h, w), k = x.shape, dy.shape[1]
    dw = torch.empty(k, c, 3, 3)
    failed = _library().carrara_weights(
        x.data_ptr(), dy.data_ptr(), dw.data_ptr(), b, h, w, c, k, x.dtype == torch.bfloat16, _coarse(x),
        torch.get_num_threads(),
    )  # fmt: skip
    _check(failed)
    return dw


def _conv3x3_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, more = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias, ctx.more = bias is not None and bias.dtype, more is not None and more.dtype


def _conv3x3_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    dx = conv3x3_input(dy.to(x.dtype), weight).to(x.dtype) if wanted[0] else None
    dw = conv3x3_weight(x, dy).to(weight.dtype) if wanted[1] else None
    db = dy.sum((0, 2, 3), dtype=torch.float32).to(ctx.bias) if wanted[2] else None
    return dx, dw, db, dy.to(ctx.more) if wanted[3] else None


conv3x3.register_autograd(_conv3x3_backward, setup_context=_conv3x3_context)


@conv3x3.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, more: Tensor | None) -> Tensor:
    return x.new_empty((len(x), len(weight), *x.shape[2:])).to(memory_format=CL)


@conv3x3_input.register_fake
def _(dy: Tensor, weight: Tensor) -> Tensor:
    return dy.new_empty((len(dy), weight.shape[1], *dy.shape[2:])).to(memory_format=CL)


@conv3x3_weight.register_fake
def _(x: Tensor, dy: Tensor) -> Tensor:
    return x.new_empty((dy.shape[1], x.shape[1], 3, 3), dtype=torch.float32)


# ---------------------------------------------------------------------------------------------------- norms


@torch.library.custom_op(
    "carrara::group_norm",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor scale, Tensor shift, int groups, float eps, bool silu) -> (Tensor, Tensor, Tensor)",
)
def group_norm(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / std): x (B, C, H, W) normalised over its groups, · scale + shift, (B, C) or (C), then SiLU where asked."""
    x, scale, shift = _last(x), scale.float().contiguous(), shift.float().contiguous()
    b, c, h, w = x.shape
    y, mean, rstd = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    failed = _library().carrara_group_norm(
        x.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, y.data_ptr(), mean.data_ptr(),
        rstd.data_ptr(), b, h * w, c, groups, eps, silu, x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    _check(failed)
    return y, mean, rstd


@torch.library.custom_op(
    "carrara::group_norm_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor dy, Tensor scale, Tensor shift, Tensor mean, Tensor rstd, int groups, bool silu)"
    " -> (Tensor, Tensor, Tensor)",
)
def group_norm_backward(
    x: Tensor, dy: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, rstd: Tensor, groups: int, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of group_norm's x (B, C, H, W), scale and shift, the last two (B, C)."""
    x, dy, scale, shift = _last(x), _last(dy, x.dtype), scale.float().contiguous(), shift.float().contiguous()
    b, c, h, w = x.shape
    dx, dscale, dshift = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    failed = _library().carrara_group_norm_adjoint(
        x.data_ptr(), dy.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, mean.data_ptr(),
        rstd.data_ptr(), dx.data_ptr(), dscale.data_ptr(), dshift.data_ptr(), b, h * w, c, groups, silu,
        x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    _check(failed)
    return dx, dscale, dshift


@torch.library.custom_op(
    "carrara::layer_norm",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor scale, Tensor shift, float eps) -> (Tensor, Tensor, Tensor)",
)
def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, 1 / std): tokens x (B, N, C) normalised over their channels, · scale + shift, (B, C) or (C)."""
    x, scale, shift = x.contiguous(), scale.float().contiguous(), shift.float().contiguous()
    b, n, c = x.shape
    y, mean, rstd = torch.empty_like(x), torch.empty(b, n), torch.empty(b, n)
    _library().carrara_layer_norm(
        x.data_ptr(), scale.data_ptr(), shift.data_ptr(), c if scale.ndim == 2 else 0, y.data_ptr(), mean.data_ptr(),
        rstd.data_ptr(), b, n, c, eps, x.dtype == torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    return y, mean, rstd


@torch.library.custom_op(
    "carrara::layer_norm_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor dy, Tensor scale, Tensor mean, Tensor rstd) -> (Tensor, Tensor, Tensor)",
)
def layer_norm_backward(
    x: Tensor, dy: Tensor, scale: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of layer_norm's x (B, N, C), scale and shift, the last two (B, C)."""
    x, dy, scale = x.contiguous(), dy.to(x.dtype).contiguous(), scale.float().contiguous()
    b, n, c = x.shape
    dx, dscale, dshift = torch.empty_like(x), torch.empty(b, c), torch.empty(b, c)
    _library().carrara_layer_norm_adjoint(
        x.data_ptr(), dy.data_ptr(), scale.data_ptr(), c if scale.ndim == 2 else 0, mean.data_ptr(), rstd.data_ptr(),
        dx.data_ptr(), dscale.data_ptr(), dshift.data_ptr(), b, n, c, x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )  # fmt: skip
    return dx, dscale, dshift


def _group_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, ctx.groups, _, ctx.silu = inputs
    ctx.save_for_backward(x, scale, shift, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _group_norm_backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, scale, shift, mean, rstd = ctx.saved_tensors
    dx, dscale, dshift = group_norm_backward(x, dy, scale, shift, mean, rstd, ctx.groups, ctx.silu)
    return dx, _like(dscale, scale), _like(dshift, shift), None, None, None


def _layer_norm_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, _ = inputs
    ctx.save_for_backward(x, scale, shift, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _layer_norm_backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    x, scale, shift, mean, rstd = ctx.saved_tensors
    dx, dscale, dshift = layer_norm_backward(x, dy, scale, mean, rstd)
    return dx, _like(dscale, scale), _like(dshift, shift), None


group_norm.register_autograd(_group_norm_backward, setup_context=_group_norm_context)
layer_norm.register_autograd(_layer_norm_backward, setup_context=_layer_norm_context)


@group_norm.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x, memory_format=CL), sums, torch.empty_like(sums)


@group_norm_backward.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x, memory_format=CL), sums, torch.empty_like(sums)


@layer_norm.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty(x.shape[:2], dtype=torch.float32)
    return torch.empty_like(x), sums, torch.empty_like(sums)


@layer_norm_backward.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = x.new_empty((len(x), x.shape[-1]), dtype=torch.float32)
    return torch.empty_like(x), sums, torch.empty_like(sums)


# ---------------------------------------------------------------------------------------------------- helpers


def _library() -> Any:
    return library()


def _coarse(x: Tensor) -> bool:
    """Whether factors are rounded to bfloat16: where x is, and the processor multiplies such numbers faster."""
    return x.dtype == torch.bfloat16 and bool(_library().carrara_coarse())


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _last(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """x with its channels last in memory."""
    return x.to(dtype=dtype or x.dtype, memory_format=CL).contiguous(memory_format=CL)


def _like(sums: Tensor, of: Tensor) -> Tensor:
    """A gradient (B, C) for a parameter of (B, C) or (C)."""
    return (sums if of.ndim == 2 else sums.sum(0)).to(of.dtype)


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("there is no memory left for a convolution's or norm's working space; use a smaller batch")
