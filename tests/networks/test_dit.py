"""The diffusion transformer: its patches and places, and the block it is made of."""

from typing import Any

import pytest
import torch

from carrara.errors import InputError
from carrara.networks.dit import DiT, places
from carrara.networks.transformer import Attention, Block, Transformer


def net(size: int = 8, **options: Any) -> DiT:
    torch.manual_seed(0)
    return DiT(1, size, 3, **{"width": 16, "head_width": 8, "depth": 2, **options})


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (28, 2), (32, 2), (33, 4), (64, 4)])
def test_a_patch_is_larger_in_larger_pictures(size: int, patch: int) -> None:
    assert net(size).patch == patch
    assert net(size, patch=3).patch == 3


@pytest.mark.parametrize("patch", [1, 2, 3, 4])
def test_a_token_is_a_patch(patch: int) -> None:
    """With blocks that are the identity and no places, each patch is mapped by itself."""
    network = net(12, patch=patch)
    torch.nn.init.normal_(network.leave.weight)
    x = torch.randn(1, 1, 12, 12)
    out = network(x, torch.tensor([0.5]))
    x[..., :patch, patch : 2 * patch] += 1
    different = network(x, torch.tensor([0.5])) != out
    inside = torch.zeros_like(different)
    inside[..., :patch, patch : 2 * patch] = True
    assert not bool((different & ~inside).any()) and bool((different & inside).any())


def test_places_are_told_apart_and_rows_from_columns() -> None:
    where = places(5, 7, 32)
    assert where.shape == (35, 32)
    assert (torch.cdist(where, where) + 10 * torch.eye(35)).min() > 0.5
    grid = where.unflatten(0, (5, 7))
    assert torch.equal(grid[:, 0, :16], grid[:, 6, :16]) and torch.equal(grid[0, :, 16:], grid[4, :, 16:])
    assert torch.equal(places(7, 5, 32).unflatten(0, (7, 5)).transpose(0, 1).roll(16, dims=-1), grid)


def test_attention_is_attention() -> None:
    """Against torch's own."""
    layer = Attention(32, 4)
    x = torch.randn(2, 5, 32)
    q, k, v = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=2))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 32)
    torch.testing.assert_close(layer(x), layer.out(mixed))


def test_a_block_is_its_formula_and_begins_as_the_identity() -> None:
    block = Block(16, 2, mlp_ratio=3)
    x = torch.randn(2, 5, 16)
    shift1, scale1, gate1, shift2, scale2, gate2 = told = list(torch.randn(6, 2, 1, 16))

    def normed(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()

    h = x + gate1 * block.attention(normed(x) * (1 + scale1) + shift1)
    expected = h + gate2 * block.mlp(normed(h) * (1 + scale2) + shift2)
    torch.testing.assert_close(block(x, *(vector[:, 0] for vector in told)), expected)
    assert torch.equal(block(x, *torch.zeros(6, 2, 16)), x)


def test_tokens_have_no_order_of_their_own() -> None:
    body = Transformer(16, 2, 2, embedding=8).eval()
    torch.nn.init.normal_(body.modulate.weight, std=0.3)
    x, emb, order = torch.randn(2, 7, 16), torch.randn(2, 8), torch.randperm(7)
    torch.testing.assert_close(body(x[:, order], emb), body(x, emb)[:, order])


def test_most_parameters_are_in_the_blocks() -> None:
    with torch.device("meta"):
        network = DiT(1, 28, 10)
    blocks = sum(p.numel() for p in network.body.blocks.parameters())
    whole = sum(p.numel() for p in network.parameters())
    assert 4e6 < whole < 8e6 and blocks > 0.85 * whole


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 20}, r"network\.width is 20; it must be a multiple of network\.head_width, 8"),
        ({"width": 18, "head_width": 9}, r"network\.width is 18; it must be a multiple of 4"),
        ({"width": 0}, r"network\.width is 0"),
        ({"head_width": 0}, r"network\.head_width is 0; it must be at least 1"),
        ({"depth": 0}, r"network\.depth is 0; it must be at least 1 block"),
        ({"patch": 0}, r"network\.patch is 0; it must be at least 1 pixel"),
        ({"mlp_ratio": 0.0}, r"network\.mlp_ratio is 0\.0; it must be positive"),
        ({"dropout": -0.1}, r"network\.dropout is -0\.1"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)
