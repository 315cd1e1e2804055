"""Each kernel beside torch's own in float64: values, gradients, and what must not change them."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara import native
from carrara.native import attention, common, convolution, norms, pointwise
from carrara.networks import ops

pytestmark = pytest.mark.skipif(not common.usable(), reason="there is no C compiler here")

EXACT, ROUGH = 1e-5, 2.5e-2
"""Root mean square error over root mean square value that is allowed in float32 and in bfloat16."""
DTYPES = [(torch.float32, EXACT), (torch.bfloat16, ROUGH)]
PICTURES = [(1, 4, 64, 28), (3, 20, 36, 13), (2, 64, 64, 16), (5, 128, 33, 7), (40, 1, 2, 3), (2, 16, 16, 1)]
"""(B, C, K, side)."""


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def gradients(of: Callable[..., Tensor], inputs: Sequence[Tensor], slope: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output of a function, and the gradients of its inputs."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = of(*leaves)
    return y.detach(), list(torch.autograd.grad(y, leaves, slope.to(y.dtype)))


def compare(
    mine: Callable[..., Tensor], theirs: Callable[..., Tensor], inputs: Sequence[Tensor], slope: Tensor, bound: float
) -> None:
    """Values and gradients of the two functions, theirs in float64, agree within the bound."""
    y, grads = gradients(mine, inputs, slope)
    exact, exact_grads = gradients(theirs, [x.double() for x in inputs], slope.double())
    assert y.shape == exact.shape
    assert error(y, exact) < bound
    for i, (found, wanted) in enumerate(zip(grads, exact_grads, strict=True)):
        assert found.shape == wanted.shape and error(found, wanted) < bound, i


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(("b", "c", "k", "side"), PICTURES)
def test_a_convolution_is_torchs(b: int, c: int, k: int, side: int, dtype: torch.dtype, bound: float) -> None:
    inputs = [
        drawn(b, c, side, side + 1, seed=1, dtype=dtype),
        drawn(k, c, 3, 3, seed=2) / math.sqrt(9 * c),
        drawn(k, seed=3),
        drawn(b, k, side, side + 1, seed=4, dtype=dtype),
    ]
    compare(
        convolution.conv3x3,
        lambda x, w, bias, more: F.conv2d(x, w, bias, padding=1) + more,
        inputs,
        drawn(b, k, side, side + 1, seed=5, dtype=dtype),
        bound,
    )


def test_a_convolution_in_float32_is_nearer_than_torchs_in_bfloat16() -> None:
    x, w = drawn(8, 64, 16, 16), drawn(64, 64, 3, 3, seed=1) / 24
    exact = F.conv2d(x.double(), w.double(), padding=1)
    own = error(convolution.conv3x3(x, w, None, None), exact)
    assert own < 1e-5 < 1e-3 < error(F.conv2d(x.bfloat16(), w.bfloat16(), padding=1), exact)


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(("b", "c", "side", "groups"), [(3, 20, 13, 4), (2, 64, 16, 8), (1, 136, 1, 8), (2, 8, 5, 1)])
def test_a_group_norm_is_torchs(
    b: int, c: int, side: int, groups: int, each: bool, silu: bool, dtype: torch.dtype, bound: float
) -> None:
    shape = (b, c) if each else (c,)
    inputs = [
        drawn(b, c, side, side, seed=1, dtype=dtype) * 2 + 3,
        1 + drawn(*shape, seed=2) / 2,
        drawn(*shape, seed=3),
    ]

    def theirs(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        h = F.group_norm(x, groups, eps=1e-5).flatten(2) * scale[..., None] + shift[..., None]
        return (F.silu(h) if silu else h).reshape(x.shape)

    def mine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y: Tensor = norms.group_norm(x, scale, shift, groups, 1e-5, silu)[0]
        return y

    if side == 1:
        inputs[0] = drawn(b, c, side, side, seed=1, dtype=dtype) * 2
    compare(mine, theirs, inputs, drawn(b, c, side, side, seed=4, dtype=dtype), bound)


def test_a_group_norm_does_not_cancel() -> None:
    x = 1000 + drawn(2, 16, 32, 32)
    ones, zeros = torch.ones(16), torch.zeros(16)
    y = norms.group_norm(x, ones, zeros, 4, 1e-5, False)[0]
    assert error(y, F.group_norm(x.double(), 4, eps=1e-5)) < 1e-4


@pytest.mark.parametrize("value", [-1e4, -100.0, -90.0, 90.0, 100.0, 1e4])
def test_silu_holds_far_out(value: float) -> None:
    x = torch.cat([torch.ones(1, 8, 1, 1), -torch.ones(1, 8, 1, 1)], dim=3).repeat(1, 1, 1, 4)
    scale, shift = torch.zeros(8), torch.full((8,), value)
    y = norms.group_norm(x, scale, shift, 1, 1e-5, True)[0]
    torch.testing.assert_close(y, F.silu(torch.full_like(y, value)), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(("b", "n", "c"), [(2, 7, 40), (3, 16, 64), (1, 1, 5)])
def test_a_layer_norm_is_torchs(b: int, n: int, c: int, dtype: torch.dtype, bound: float) -> None:
    inputs = [drawn(b, n, c, seed=1, dtype=dtype) * 2 + 1, 1 + drawn(b, c, seed=2) / 2, drawn(b, c, seed=3)]
    compare(
        lambda x, scale, shift: norms.layer_norm(x, scale, shift, 1e-6, True)[0],
        lambda x, scale, shift: F.layer_norm(x, (c,), eps=1e-6) * scale[:, None] + shift[:, None],
        inputs,
        drawn(b, n, c, seed=4, dtype=dtype),
        bound,
    )


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(("b", "n", "c"), [(2, 7, 40), (3, 16, 64), (1, 1, 5)])
def test_an_rms_norm_is_torchs(b: int, n: int, c: int, dtype: torch.dtype, bound: float) -> None:
    inputs = [drawn(b, n, c, seed=1, dtype=dtype) * 2 + 1, drawn(b, c, seed=2) / 2, drawn(b, c, seed=3)]
    theirs = lambda x, scale, shift: F.rms_norm(x, (c,), eps=1e-6) * (1 + scale[:, None]) + shift[:, None]  # noqa: E731
    compare(ops.rms_norm, theirs, inputs, drawn(b, n, c, seed=4, dtype=dtype), bound)
    with native.chosen("torch"):
        compare(ops.rms_norm, theirs, [x.double() for x in inputs], drawn(b, n, c, seed=4).double(), 1e-9)


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(("b", "n", "c"), [(2, 7, 40), (3, 16, 64), (1, 1, 5)])
def test_a_gate_is_torchs(b: int, n: int, c: int, dtype: torch.dtype, bound: float) -> None:
    inputs = [drawn(b, n, c, seed=1, dtype=dtype), drawn(b, c, seed=2), drawn(b, n, c, seed=3, dtype=dtype)]
    slope = drawn(b, n, c, seed=4, dtype=dtype)
    compare(
        lambda x, gate, branch: pointwise.gated(x, gate, branch, None),
        lambda x, gate, branch: x + gate[:, None] * branch,
        inputs,
        slope,
        bound,
    )
    compare(
        lambda x, branch, bias: pointwise.gated(x, None, branch, bias),
        lambda x, branch, bias: x + branch + bias,
        [*inputs[::2], drawn(c, seed=5)],
        slope,
        bound,
    )
    compare(
        pointwise.gated,
        lambda x, gate, branch, bias: x + gate[:, None] * (branch + bias),
        [*inputs, drawn(c, seed=5)],
        slope,
        bound,
    )


@pytest.mark.parametrize(("dtype", "bound"), DTYPES)
@pytest.mark.parametrize(("b", "n", "c"), [(2, 7, 40), (3, 16, 64), (1, 1, 5)])
def test_a_silu_is_torchs(b: int, n: int, c: int, dtype: torch.dtype, bound: float) -> None:
    inputs = [drawn(b, n, c, seed=1, dtype=dtype) * 3, drawn(c, seed=2)]
    slope = drawn(b, n, c, seed=3, dtype=dtype)
    compare(pointwise.silu, lambda x, bias: F.silu(x + bias), inputs, slope, bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_is_the_same_in_any_batch(dtype: torch.dtype) -> None:
    x, w, scale = drawn(37, 32, 10, 10, dtype=dtype), drawn(48, 32, 3, 3, seed=1), drawn(37, 32, seed=2)
    qkv = drawn(37, 12, 96, dtype=dtype)
    for rows in (slice(0, 1), slice(5, 9), slice(36, 37)):
        alone, whole = convolution.conv3x3(x[rows], w, None, None), convolution.conv3x3(x, w, None, None)
        assert torch.equal(alone, whole[rows])
        args = (4, 1e-5, True)
        normed = norms.group_norm(x, scale, scale, *args)[0][rows]
        assert torch.equal(norms.group_norm(x[rows], scale[rows], scale[rows], *args)[0], normed)
        assert torch.equal(
            attention.self_attention(qkv[rows], None, None, 2, 12)[0],
            attention.self_attention(qkv, None, None, 2, 12)[0][rows],
        )


def test_the_threads_do_not_change_a_convolution() -> None:
    x, w = drawn(9, 16, 12, 12), drawn(16, 16, 3, 3, seed=1)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(convolution.conv3x3(x, w, None, None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_changed_weights_are_seen() -> None:
    x, w = drawn(2, 8, 12, 12), torch.nn.Parameter(drawn(8, 8, 3, 3, seed=1))
    with torch.no_grad():
        first = convolution.conv3x3(x, w, None, None)
        w.mul_(2)
        assert torch.allclose(convolution.conv3x3(x, w, None, None), 2 * first, atol=1e-4)
        w.data = drawn(8, 8, 3, 3, seed=9)
        assert error(convolution.conv3x3(x, w, None, None), F.conv2d(x.double(), w.double(), padding=1)) < EXACT
    # A fused optimiser changes weights without torch's count of changes going up.
    optimiser = torch.optim.AdamW([w], lr=0.1, fused=True)
    for _ in range(2):
        w.grad = torch.ones_like(w)
        optimiser.step()
        with torch.no_grad():
            assert error(convolution.conv3x3(x, w, None, None), F.conv2d(x.double(), w.double(), padding=1)) < EXACT


def test_transformed_weights_are_held_for_few_tiles_alone() -> None:
    few, many, w = drawn(1, 8, 8, 8), drawn(40, 8, 8, 8), drawn(8, 8, 3, 3, seed=1)
    with torch.no_grad():
        for x, held in ((few, True), (many, False), (few, True)):
            convolution.conv3x3(x, w, None, None)
            assert hasattr(w, convolution.KEPT) == held
    convolution.conv3x3(few, w.requires_grad_(), None, None)
    assert not hasattr(w, convolution.KEPT)


def test_changes_are_seen_in_weights_that_are_a_part_of_others() -> None:
    whole = drawn(8, 16, 3, 3, seed=1)
    x, part = drawn(2, 8, 12, 12), whole[:, ::2]
    with torch.no_grad():
        convolution.conv3x3(x, part, None, None)
        whole[6] += 1
        found = convolution.conv3x3(x, part, None, None)
    assert error(found, F.conv2d(x.double(), part.double(), padding=1)) < EXACT


def test_a_gradient_of_a_gradient_is_refused_and_not_zero() -> None:
    x = drawn(4, 8, 12, 12).requires_grad_()
    y = convolution.conv3x3(x.tanh(), drawn(8, 8, 3, 3), None, None).square().sum()
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()


def test_weights_may_lie_in_any_order() -> None:
    x, w = drawn(4, 8, 12, 12), drawn(6, 8, 3, 3, seed=1)
    turned = w.contiguous(memory_format=torch.channels_last)
    slope = drawn(4, 6, 12, 12, seed=2)
    mine, wanted = (
        [convolution.conv3x3(x, each, None, None), convolution.input_gradient(slope, each)] for each in (turned, w)
    )
    assert all(torch.equal(a, b) for a, b in zip(mine, wanted, strict=True))


def test_torch_knows_the_operators() -> None:
    x, w, one = (
        drawn(2, 8, 6, 6).requires_grad_(),
        drawn(8, 8, 3, 3).requires_grad_(),
        torch.ones(8, requires_grad=True),
    )
    torch.library.opcheck(convolution.conv3x3_operator, (x, w, one, x))
    torch.library.opcheck(norms.group_norm_operator, (x, one, one, 2, 1e-5, True))
    tokens = drawn(2, 6, 24).requires_grad_()
    torch.library.opcheck(norms.layer_norm_operator, (tokens, drawn(2, 24), drawn(2, 24), 1e-6, True))
    torch.library.opcheck(pointwise.gated_operator, (tokens, drawn(2, 24), tokens, drawn(24).requires_grad_()))
    torch.library.opcheck(pointwise.gated_operator, (tokens, None, tokens, None))
    torch.library.opcheck(pointwise.silu_operator, (tokens, drawn(24).requires_grad_()))
    torch.library.opcheck(attention.self_attention_operator, (tokens, None, None, 2, 6))
    torch.library.opcheck(
        attention.self_attention_operator, (tokens, drawn(24).requires_grad_(), drawn(6, 2, 4), 2, 2)
    )


@pytest.mark.parametrize("grad", [True, False])
def test_the_choice_is_obeyed(monkeypatch: pytest.MonkeyPatch, grad: bool) -> None:
    x, w = drawn(4, 8, 12, 12), drawn(6, 8, 3, 3, seed=1)
    asked: list[int] = []
    kernel = convolution.conv3x3
    monkeypatch.setattr(convolution, "conv3x3", lambda *args: asked.append(1) or kernel(*args))
    with torch.set_grad_enabled(grad):
        ops.conv3x3(x, w)
        assert asked == [1]
        with native.chosen("torch"):
            ops.conv3x3(x, w)
        ops.conv3x3(x.double(), w.double())
    assert asked == [1]


def test_a_graph_holds_the_operators() -> None:
    """Compiled, eager with gradients and without: the same numbers, and the same gradients."""
    x, w = drawn(4, 8, 12, 12), drawn(8, 8, 3, 3, seed=1)
    one, tokens = torch.ones(8), drawn(2, 6, 24)

    def all_of_them(x: Tensor, w: Tensor, tokens: Tensor) -> Tensor:
        h = ops.group_norm(ops.conv3x3(x, w), 2, one, one, silu=True)
        t = ops.gated(tokens, tokens[:, 0], ops.layer_norm(tokens, tokens[:, 0], tokens[:, 1]))
        return h.sum() + ops.self_attention(t, 2).square().sum()

    compiled = torch.compile(all_of_them, backend="aot_eager", fullgraph=True)
    y, grads = gradients(all_of_them, [x, w, tokens], torch.ones(()))
    again, compiled_grads = gradients(compiled, [x, w, tokens], torch.ones(()))
    torch.testing.assert_close(y, again)
    for a, b in zip(grads, compiled_grads, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(all_of_them(x, w, tokens), y)


def test_small_convolutions_are_torchs_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = drawn(2, 8, 12, 12), drawn(6, 8, 3, 3, seed=1)
    assert not convolution.worth(x) and convolution.worth(x.repeat(2, 1, 1, 1))
    with torch.no_grad():
        assert convolution.worth(x[:1, :, :1, :1])
        assert error(ops.conv3x3(x, w), F.conv2d(x.double(), w.double(), padding=1)) < EXACT


def test_autocast_decides_the_dtype() -> None:
    x, w = drawn(4, 8, 12, 12), drawn(6, 8, 3, 3, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.conv3x3(x, w).dtype == torch.bfloat16
        assert ops.conv1x1(x, w[..., :1, :1]).dtype == torch.bfloat16
        assert ops.group_norm(x, 2, torch.ones(8), torch.zeros(8)).dtype == torch.bfloat16
        assert ops.self_attention(drawn(2, 6, 24), 2).dtype == torch.bfloat16
    assert ops.conv3x3(x, w).dtype == torch.float32


@pytest.mark.parametrize(
    "changed",
    [
        lambda w: w.flip(0),
        lambda w: w.flip(-1),
        lambda w: w[:, torch.randperm(16)],
        lambda w: -w,
        lambda w: w * (1 + 2**-20),
    ],
    ids=["outputs", "mirrored", "inputs", "sign", "little"],
)
def test_weights_that_changed_places_have_changed(changed: Callable[[Tensor], Tensor]) -> None:
    """Their sum, or that of their bits, is what it was; what was kept of them is not theirs any more."""
    weight, x = drawn(16, 16, 3, 3, seed=1), drawn(1, 16, 8, 8)
    with torch.no_grad():
        ops.conv3x3(x, weight, None)
        weight.copy_(changed(weight.clone()))
        found = ops.conv3x3(x, weight, None)
    assert error(found, F.conv2d(x.double(), weight.double(), padding=1)) < EXACT


@pytest.mark.parametrize("shape", [(0, 16, 8, 8), (2, 16, 0, 8)])
def test_of_nothing_comes_nothing(shape: tuple[int, ...]) -> None:
    with native.chosen("native"):
        x, weight = drawn(*shape).requires_grad_(), drawn(8, 16, 3, 3).requires_grad_()
        y = convolution.conv3x3_operator(x, weight, None, None)
        assert y.shape == (shape[0], 8, *shape[2:])
        y.sum().backward()
    assert weight.grad is not None and not bool(weight.grad.any())
    with torch.no_grad():
        assert ops.conv3x3(x, weight, None).shape == y.shape
