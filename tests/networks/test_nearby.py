"""What stands beside a place, mixed into it before every block: what is summed, where, and what is refused."""

from typing import Any

import pytest
import torch

from carrara.errors import InputError
from carrara.networks.nearby import Nearby
from carrara.networks.tokens import TokenTransformer

WIDTH = 5


def nearby(grid: tuple[int, ...], before: int = 0) -> Nearby:
    """With weights drawn at random."""
    module = Nearby(WIDTH, grid, before)
    with torch.no_grad():
        module.weights.weight.normal_(generator=torch.Generator().manual_seed(0))
    return module


def net(**options: Any) -> TokenTransformer:
    torch.manual_seed(0)
    return TokenTransformer(vocab=7, length=12, **{"width": 16, "head_width": 8, "depth": 2, **options})


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("grid", [(3, 4), ()], ids=["grid", "line"])
def test_each_place_gets_those_around_it_and_itself_weighed(grid: tuple[int, ...], before: int) -> None:
    module, width = nearby(grid, before), grid[1] if grid else 12
    x = torch.randn(2, before + 12, WIDTH, generator=torch.Generator().manual_seed(1))
    rows = module.weights.weight.reshape(-1, 3, WIDTH)
    expected = x.clone()
    for place in range(12):
        for i in range(12):
            down, right = i // width - place // width, i % width - place % width
            if abs(down) <= 1 and abs(right) <= 1:
                expected[:, before + place] += x[:, before + i] * rows[down + 1 if grid else 0, right + 1]
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("grid", [(3, 4), ()], ids=["grid", "line"])
def test_untrained_it_is_the_identity_and_learns(grid: tuple[int, ...]) -> None:
    module, x = Nearby(WIDTH, grid), torch.randn(2, 12, WIDTH)
    out = module(x)
    assert torch.equal(out, x)
    out.square().sum().backward()
    assert module.weights.weight.grad is not None and bool(module.weights.weight.grad.all())


def test_every_block_has_its_own_and_a_line_may_be_shorter() -> None:
    network = net(nearby=True)
    assert network.body.first is not None and len(network.body.first) == 2
    assert net().body.first is None
    assert network(torch.zeros(1, 5, dtype=torch.long), torch.ones(1)).shape == (1, 5, 7)


def test_places_that_fill_no_grid_and_causal_networks_are_refused() -> None:
    with pytest.raises(InputError, match=r"there are 11 tokens, and the network was made for 3 × 4 of them"):
        net(nearby=True, grid=(3, 4))(torch.zeros(1, 11, dtype=torch.long), torch.ones(1))
    with pytest.raises(InputError, match=r"network\.nearby is True; it must be false where network\.causal is true"):
        net(nearby=True, causal=True)
