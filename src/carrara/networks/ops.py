"""The operations that take a network's time, in one place, so that each has its fastest form here and nowhere else.

Pictures are (B, C, H, W), tokens (B, N, C). Each function has torch's meaning; which kernel computes it is decided here: our own
(carrara.native) on a CPU, in float32 or bfloat16, torch's everywhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.native import attention as native_attention
from carrara.native import convolution, norms, pointwise
from carrara.native.common import computed_in, serve


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, more: Tensor | None = None) -> Tensor:
    """x (B, C, H, W) convolved with weight (K, C, 3, 3), a border of one zero around it, + more where given: (B, K, H, W)."""
    if serve(x) and convolution.worth(x):
        own: Tensor = convolution.conv3x3(x.to(computed_in(x)), weight, bias, more)
        return own
    y = F.conv2d(x, weight, bias, padding=1)
    return y if more is None else y + more


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (B, C, H, W) mixed over its channels by weight (K, C, 1, 1): (B, K, H, W)."""
    if serve(x) and computed_in(x) == torch.bfloat16:
        # With channels last it is one matrix product, which is faster than a convolution, but for float32's on some processors.
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = False,
    eps: float = 1e-5,
) -> Tensor:
    """GroupNorm of x (B, C, H, W), then · (1 + scale) + shift where given, each (B, C), then SiLU where asked."""
    if serve(x):
        if scale is not None and shift is not None:
            weight, bias = weight * (1 + scale.float()), torch.addcmul(shift.float(), bias, 1 + scale.float())
        own: Tensor = norms.group_norm(x.to(computed_in(x)), weight, bias, groups, eps, silu)[0]
        return own
    h = F.group_norm(x, groups, weight, bias, eps)
    if scale is not None and shift is not None:
        h = torch.addcmul(shift[:, :, None, None], h, 1 + scale[:, :, None, None])
    return F.silu(h) if silu else h


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """x (B, N, C) with mean 0 and variance 1 over its channels, · (1 + scale) + shift, each (B, C)."""
    if serve(x):
        own: Tensor = norms.layer_norm(x.to(computed_in(x)), 1 + scale.float(), shift.float(), eps, True)[0]
        return own
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale[:, None])


def rms_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """x (B, N, C) with a mean square of 1 over its channels, · (1 + scale) + shift, each (B, C).

    Source: Root Mean Square Layer Normalization, Zhang & Sennrich, 2019.
    """
    if serve(x):
        own: Tensor = norms.layer_norm(x.to(computed_in(x)), 1 + scale.float(), shift.float(), eps, False)[0]
        return own
    return torch.addcmul(shift[:, None], F.rms_norm(x, x.shape[-1:], eps=eps), 1 + scale[:, None])


def linear_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of x (…, C) weightᵀ + bias, weight (K, C): (…, K)."""
    if serve(x):
        # A bias costs the product a fifth of its time in bfloat16, and what comes after it nothing: so in all that follows.
        own: Tensor = pointwise.silu(F.linear(x, weight), bias)
        return own
    return F.silu(F.linear(x, weight, bias))


def linear_added(x: Tensor, gate: Tensor | None, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x + gate · (h weightᵀ + bias) for x (B, N, K), h (B, N, C), gate (B, K), None: 1, in x's precision."""
    if x.dtype == computed_in(x) and serve(x):
        own: Tensor = pointwise.gated(x, gate, F.linear(h, weight), bias)
        return own
    return gated(x, gate, F.linear(h, weight, bias))


def gated(x: Tensor, gate: Tensor | None, branch: Tensor) -> Tensor:
    """x + gate · branch, for tokens x and branch (B, N, C) and gate (B, C), None: 1, in x's precision."""
    if x.dtype == computed_in(x) and serve(x):
        own: Tensor = pointwise.gated(x, gate, branch, None)
        return own
    if gate is None:
        return x + branch.to(x.dtype)
    return torch.addcmul(x, gate[:, None].to(x.dtype), branch.to(x.dtype))


def linear_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    heads: int,
    turn: Tensor | None = None,
    prefix: int | None = None,
) -> Tensor:
    """Self-attention over tokens x (B, N, C) that weight (3 · heads · D, C) and bias make q, k and v of: (B, N, heads · D).

    `turn` and `prefix` see `self_attention`.
    """
    if serve(x) and x.shape[1] <= native_attention.TOKENS:
        qkv, most = F.linear(x, weight).to(computed_in(x)), x.shape[1] if prefix is None else prefix
        own: Tensor = native_attention.self_attention(qkv, bias, turn, heads, most)[0]
        return own
    return self_attention(F.linear(x, weight, bias), heads, turn, prefix)


def self_attention(qkv: Tensor, heads: int, turn: Tensor | None = None, prefix: int | None = None) -> Tensor:
    """softmax(q kᵀ / √D) v over tokens (B, N, 3 · heads · D), q, k and v after one another: (B, N, heads · D).

    turn (N, 2, D): what q and k are turned by, see `turned`. prefix: all see the first so many tokens, and each of the others is
    seen by itself and by those after it; None: all see all.
    """
    b, n, wide = qkv.shape
    if serve(qkv) and n <= native_attention.TOKENS:
        most = n if prefix is None else prefix
        own: Tensor = native_attention.self_attention(qkv.to(computed_in(qkv)), None, turn, heads, most)[0]
        return own
    q, k, v = split(qkv, heads)
    if turn is not None:
        q, k = turned(q, turn), turned(k, turn)
    mask = None if prefix is None else seen(n, n, prefix, qkv.device)
    return attention(q, k, v, mask).transpose(1, 2).reshape(b, n, wide // 3)


def split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v, each (B, heads, N, D), of (B, N, 3 · heads · D)."""
    b, n, _ = qkv.shape
    q, k, v = qkv.reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """x (…, N, D) with its numbers in pairs (a, b) turned to (a cos - b sin, b cos + a sin), in x's precision.

    turn (N, 2, D): cosines (c, c, …) and sines (-s, s, …) of each pair's angle, for every token.
    """
    other = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * turn[:, 0] + other * turn[:, 1]).to(x.dtype)


def seen(queries: int, keys: int, prefix: int, device: torch.device | str = "cpu") -> Tensor:
    """Which of the last `queries` of `keys` tokens sees which, bool (queries, keys): the first `prefix`, and those up to itself."""
    place = torch.arange(keys, device=device)
    return place < (place[keys - queries :, None] + 1).clamp(min=prefix)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √D) v for (B, heads, N, D) and (B, heads, M, D), where mask is True: (B, heads, N, D).

    mask: (N, M), or what broadcasts to (B, heads, N, M); each query has at least one key. A mask of numbers, 0 to 1, says how much
    each key counts, beside the others of 1.
    """
    # Written out: on a CPU, with few tokens and wide heads, it is several times faster than the fused operation.
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None and mask.is_floating_point():
        scores = scores + mask.log().to(scores.dtype)
    elif mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def attention_going_on(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`attention` of the newest tokens to all that were read, of which there are often few: mask bool, (N, M)."""
    # For one query torch's fused operation takes half the time of its parts, and for a large batch of them no more.
    return F.scaled_dot_product_attention(q, k, v, mask)
