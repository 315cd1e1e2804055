"""Attention's kernel beside torch's own in float64: with and without places, for both sides, causal, and behind a prefix."""

import pytest
import torch
from test_operators import DTYPES, compare, drawn, error, gradients
from torch import Tensor
from torch.nn import functional as F

from carrara import native
from carrara.native import attention, common
from carrara.networks import ops

pytestmark = pytest.mark.skipif(not common.usable(), reason="there is no C compiler here")


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(
    ("b", "n", "heads", "d"),
    [
        (2, 49, 2, 64),
        (1, 5, 3, 8),
        (2, 64, 1, 40),
        (3, 130, 2, 32),
        (2, 33, 2, 8),
        (1, 256, 2, 8),
        (1, 17, 1, 16),
        (3, 2, 1, 3),
    ],
)
def test_attention_is_torchs(b: int, n: int, heads: int, d: int, dtype: torch.dtype, bound: float) -> None:
    def theirs(qkv: Tensor) -> Tensor:
        q, k, v = qkv.reshape(b, n, 3, heads, d).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, heads * d)

    qkv, slope = drawn(b, n, 3 * heads * d, dtype=dtype) * 1.5, drawn(b, n, heads * d, seed=1, dtype=dtype)
    compare(lambda qkv: attention.self_attention(qkv, None, None, heads, n)[0], theirs, [qkv], slope, bound)
    bias = drawn(3 * heads * d, seed=2)
    _, (d_qkv, d_bias) = gradients(
        lambda *args: attention.self_attention(*args, None, heads, n)[0], [qkv, bias], slope
    )
    exact, (exact_qkv, exact_bias) = gradients(
        lambda x, y: theirs(x + y), [qkv.double(), bias.double()], slope.double()
    )
    assert error(attention.self_attention(qkv, bias, None, heads, n)[0], exact) < bound
    assert error(d_qkv, exact_qkv) < bound
    # That of k's bias is zero: softmax does not see it.
    assert float((d_bias.double() - exact_bias).norm() / exact_bias.norm()) < 2 * bound


def angles(n: int, d: int, seed: int = 3) -> Tensor:
    """What n tokens are turned by, at random: (n, 2, d)."""
    angle = 3 * drawn(n, d // 2, seed=seed)
    cosines, sines = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosines, cosines], -1), torch.stack([-sines, sines], -1)], 1).flatten(2)


def ordered(qkv: Tensor, turn: Tensor | None, heads: int, prefix: int) -> Tensor:
    """Attention by complex numbers and torch's own masked attention."""
    b, n, _ = qkv.shape
    q, k, v = qkv.reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if turn is not None:
        rotation = torch.complex(turn[:, 0, ::2].to(q.dtype), turn[:, 1, 1::2].to(q.dtype))
        q, k = (
            torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotation).flatten(-2) for x in (q, k)
        )
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    mask[:, :prefix] = True
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).reshape(b, n, -1)


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize("turning", [False, True])
@pytest.mark.parametrize(
    ("b", "n", "heads", "d", "prefix"),
    [
        (2, 49, 2, 64, 0),
        (2, 49, 2, 64, 49),
        (1, 1, 1, 8, 0),
        (2, 5, 3, 8, 1),
        (2, 64, 1, 40, 64),
        (3, 130, 2, 32, 33),
        (2, 33, 2, 8, 32),
        (1, 257, 2, 16, 0),
        (1, 96, 1, 16, 65),
        (3, 17, 1, 2, 0),
    ],
)
def test_attention_knows_the_order(
    b: int, n: int, heads: int, d: int, prefix: int, turning: bool, dtype: torch.dtype, bound: float
) -> None:
    turn = angles(n, d) if turning else None
    inputs = [drawn(b, n, 3 * heads * d, dtype=dtype) * 1.5, drawn(3 * heads * d, seed=2)]
    slope = drawn(b, n, heads * d, seed=1, dtype=dtype)
    y, (d_qkv, d_bias) = gradients(
        lambda x, bias: attention.self_attention(x, bias, turn, heads, prefix)[0], inputs, slope
    )
    exact, (exact_qkv, exact_bias) = gradients(
        lambda x, bias: ordered(x + bias, turn, heads, prefix), [x.double() for x in inputs], slope.double()
    )
    assert error(y, exact) < bound and error(d_qkv, exact_qkv) < bound
    assert float((d_bias.double() - exact_bias).norm() / exact_bias.norm()) < 2 * bound
    with native.chosen("torch"):
        plain, (plain_qkv,) = gradients(
            lambda x: ops.self_attention(x, heads, turn, prefix), [inputs[0].double()], slope.double()
        )
    exact, (exact_qkv,) = gradients(lambda x: ordered(x, turn, heads, prefix), [inputs[0].double()], slope.double())
    assert error(plain, exact) < 1e-6 and error(plain_qkv, exact_qkv) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "prefix", "changed"), [(70, 0, 1), (70, 0, 33), (70, 40, 40), (70, 7, 69), (9, 0, 8)])
def test_what_is_not_seen_changes_no_bit(n: int, prefix: int, changed: int, dtype: torch.dtype) -> None:
    """Whatever stands at the tokens from `changed` on, however large."""
    qkv, turn = drawn(2, n, 3 * 32, dtype=dtype), angles(n, 16)
    other = qkv.clone()
    other[:, changed:] = 1e4 * drawn(2, n - changed, 96, seed=9, dtype=dtype)
    before, after = (attention.self_attention(x, None, turn, 2, prefix)[0] for x in (qkv, other))
    assert torch.equal(before[:, :changed], after[:, :changed]) and not torch.equal(before, after)


def test_turned_scores_see_differences_of_places_alone() -> None:
    """With every token's angles a whole number of times the first's, any of them may be the first."""
    steps = torch.arange(40)[:, None] * torch.exp(-torch.arange(8) / 2)
    turn = torch.stack([steps.cos().repeat_interleave(2, 1), steps.sin().repeat_interleave(2, 1)], 1)
    turn[:, 1, ::2] *= -1
    qkv = drawn(1, 30, 48)
    first, later = (attention.self_attention(qkv, None, turn[i : i + 30], 1, 0)[0] for i in (0, 10))
    torch.testing.assert_close(first, later, rtol=1e-5, atol=1e-5)
    assert error(attention.self_attention(qkv, None, None, 1, 0)[0], first.double()) > 0.1


def test_attention_holds_for_large_scores() -> None:
    qkv = drawn(1, 20, 3 * 32) * 40
    q, k, v = qkv.double().reshape(1, 20, 3, 1, 32).permute(2, 0, 3, 1, 4)
    exact = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 20, 32)
    assert error(attention.self_attention(qkv, None, None, 1, 20)[0], exact) < 1e-4
