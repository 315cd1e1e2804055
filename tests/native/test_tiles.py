"""Products by matrix tiles, where the processor has them: those by vectors beside them, and what must not disturb either."""

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import test_attention
import test_operators
import torch
from test_operators import PICTURES, ROUGH, drawn, error
from torch import Tensor
from torch.nn import functional as F

from carrara.native import attention, common, convolution

TILED = 2
HALF = torch.bfloat16

pytestmark = pytest.mark.skipif(
    not common.usable() or common.factors() != TILED, reason="this processor has no matrix tiles, or may not use them"
)


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are taken by vectors, as where there are no tiles."""
    monkeypatch.setattr(common, "factors", lambda: 1)


def ours() -> list[Tensor]:
    """A convolution, its gradients, attention and its gradient, of the same numbers each time."""
    x, w, dy = drawn(3, 20, 13, 12, dtype=HALF), drawn(36, 20, 3, 3, seed=1), drawn(3, 36, 13, 12, seed=2, dtype=HALF)
    qkv, slope = drawn(2, 49, 3 * 40, seed=3, dtype=HALF), drawn(2, 49, 40, seed=4, dtype=HALF)
    o, log_sum = attention.attended(qkv, None, None, 1, 20)
    return [
        convolution.convolve(x, w, None, None),
        convolution.input_gradient(dy, w),
        *convolution.weight_gradient(x, dy),
        o,
        *attention.gradient(qkv, None, None, o, log_sum, slope, 1, 20),
    ]


def theirs() -> list[Tensor]:
    """The same of torch's own products by tiles."""
    a, x, w = drawn(70, 90, dtype=HALF), drawn(2, 32, 9, 9, dtype=HALF), drawn(32, 32, 3, 3, seed=1, dtype=HALF)
    return [a @ a.T, torch.conv2d(x, w, padding=1)]


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(("b", "c", "k", "side"), PICTURES)
def test_a_convolution_by_vectors_is_torchs(b: int, c: int, k: int, side: int) -> None:
    test_operators.test_a_convolution_is_torchs(b, c, k, side, HALF, ROUGH)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(("b", "n", "heads", "d"), [(2, 49, 2, 64), (1, 5, 3, 8), (3, 130, 2, 32)])
def test_attention_by_vectors_is_torchs(b: int, n: int, heads: int, d: int) -> None:
    test_attention.test_attention_is_torchs(b, n, heads, d, HALF, ROUGH)
    test_attention.test_attention_knows_the_order(b, n, heads, d, n // 2, True, HALF, ROUGH)


@pytest.mark.parametrize(
    ("b", "c", "k", "h", "w"), [(2, 3, 5, 7, 40), (1, 33, 65, 1, 1), (7, 40, 8, 2, 3), (1, 96, 40, 50, 61)]
)
def test_a_convolution_by_tiles_rounds_nothing_but_weights_and_result(b: int, c: int, k: int, h: int, w: int) -> None:
    x, dy = drawn(b, c, h, w, dtype=HALF), drawn(b, k, h, w, seed=2, dtype=HALF)
    weight = drawn(k, c, 3, 3, seed=1).bfloat16().float()
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    y, dx = convolution.conv3x3(x, weight, None, None), convolution.input_gradient(dy, weight)
    rounded = 2e-3  # Half a bfloat16's last bit, in the mean of all mantissas, and a little.
    assert error(y, exact) < rounded
    assert error(dx, F.conv_transpose2d(dy.double(), weight.double(), padding=1)) < rounded
    dw, db = convolution.weight_gradient(x, dy)
    leaf = weight.double().requires_grad_()
    (wanted,) = torch.autograd.grad(F.conv2d(x.double(), leaf, padding=1), leaf, dy.double())
    assert error(dw, wanted) < 1e-5 and error(db, dy.double().sum((0, 2, 3))) < 1e-5


def test_tiles_and_vectors_are_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    tiled = ours()
    monkeypatch.setattr(common, "factors", lambda: 1)
    assert not any(torch.equal(a, b) for a, b in zip(tiled[:3], ours()[:3], strict=True))


def test_torchs_tiles_and_ours_leave_each_other_alone() -> None:
    mine, torchs = ours(), theirs()
    for _ in range(3):
        assert same(ours(), mine) and same(theirs(), torchs)
        assert same(theirs(), torchs) and same(ours(), mine)


def instruction(code: str) -> Callable[[ctypes.Array[ctypes.c_char]], None]:
    """One instruction on 64 bytes, from its machine code."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(code) + b"\xc3")
    first = ctypes.c_char.from_buffer(page)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(first))
    return lambda content: (function(content), first)[0]


def test_a_thread_finds_its_tiles_as_they_were() -> None:
    load, store = instruction("c4e2784907"), instruction("c4e2794907")
    given = bytes([1, *[0] * 15, 12, *[0] * 31, 5, *[0] * 15])  # Of the first tile 5 rows of 12 bytes, no others.
    found = ctypes.create_string_buffer(64)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        load(ctypes.create_string_buffer(given, 64))
        ours()
        store(found)
    finally:
        load(ctypes.create_string_buffer(64))
        torch.set_num_threads(before)
    assert found.raw == given


def test_each_thread_has_its_own_tiles() -> None:
    def by_turns(_: int) -> tuple[list[Tensor], list[Tensor]]:
        torch.set_num_threads(1)
        return ours(), theirs()

    before = torch.get_num_threads()
    try:
        wanted = by_turns(0)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(by_turns, range(12)):
                assert same(found[0], wanted[0]) and same(found[1], wanted[1])
    finally:
        torch.set_num_threads(before)


def with_threads(of: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(of())
    finally:
        torch.set_num_threads(before)
    return found


def test_threads_change_no_value_and_gradients_of_weights_by_their_order_alone() -> None:
    one, *others = with_threads(ours)
    for found in others:
        assert same(found[:2] + found[4:6], one[:2] + one[4:6])
        assert all(error(a, b.double()) < 1e-5 for a, b in zip(found, one, strict=True))


TRY = """
import ctypes, os, struct
import torch
from carrara.native import common
from carrara.native.convolution import convolve
if "REFUSE" in os.environ:
    # A filter of system calls: arch_prctl(ARCH_REQ_XCOMP_PERM, ...) fails, all else is let through.
    lines = [(32, 0, 0, 0), (21, 0, 3, 158), (32, 0, 0, 16), (21, 0, 1, 0x1023), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
torch.set_num_threads(1)
x, w = torch.ones(2, 8, 9, 9).bfloat16(), torch.ones(8, 8, 3, 3)
def centre():
    return float(convolve(common.last(x), w, None, None)[0, 0, 4, 4])
print(common.usable() and common.factors(), centre(), flush=True)
child = os.fork()
if not child:
    print(centre(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def tried(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TRY], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("environment", "factors"), [({}, "2"), ({"REFUSE": "yes"}, "1"), ({"CARRARA_NATIVE": "vectors"}, "1")]
)
def test_where_tiles_are_refused_or_unwanted_vectors_serve(environment: dict[str, str], factors: str) -> None:
    """In a process of its own, and in a child of that."""
    assert tried(**environment) == [factors, "72.0", "72.0"]
