"""What every network of pictures keeps: its shapes, its beginning as nothing, and what its output depends on."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carrara.networks import NETWORKS
from carrara.plugins import find
from carrara.recipe import check

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 8, "depth": 1},
    "unet2d": {"widths": (8, 12, 16), "groups": 4, "depth": 1, "head_width": 4},
    "dit": {"width": 16, "head_width": 8, "depth": 2},
}


def net(kind: str, channels: int = 1, size: int = 8, classes: int = 3, **options: Any) -> nn.Module:
    """A small network of this kind."""
    torch.manual_seed(0)
    network: nn.Module = find("network", kind, NETWORKS)(channels, size, classes, **{**SMALL[kind], **options})
    return network


def randomised(network: nn.Module) -> nn.Module:
    """The network with every parameter that begins as zero drawn at random, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(count: int, channels: int, *sides: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, channels, *sides, generator=generator)
    return x, torch.linspace(0, 1, count), {"label": torch.arange(count) % 4}


every = pytest.mark.parametrize("kind", SMALL)
OTHERS = {"tokens", "rounds", "vectors"}
"""Networks of other things than pictures, which have tests of their own."""


def test_each_is_tried() -> None:
    assert {*SMALL, *OTHERS} == NETWORKS.keys()


@every
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 17, 28, 33])
def test_the_output_has_the_input_s_shape_and_begins_as_zero(kind: str, size: int, channels: int) -> None:
    network = net(kind, channels, size)
    out = network(*inputs(2, channels, size, size))
    assert out.shape == (2, channels, size, size) and not bool(out.any())
    again = randomised(network)(*inputs(2, channels, size, size))
    assert again.shape == (2, channels, size, size) and bool(torch.isfinite(again).all())
    assert again.std() > 1e-3


@every
@pytest.mark.parametrize("sides", [(8, 5), (5, 8), (32, 20), (13, 28)])
def test_pictures_need_not_be_square(kind: str, sides: tuple[int, int]) -> None:
    network = randomised(net(kind, 3, max(sides)))
    assert network(*inputs(2, 3, *sides)).shape == (2, 3, *sides)


@every
def test_a_learned_variance_gets_its_channels(kind: str) -> None:
    assert net(kind, 3, 9, outputs=6)(*inputs(2, 3, 9, 9)).shape == (2, 6, 9, 9)


@every
@pytest.mark.parametrize("size", [8, 28])
def test_a_sample_s_output_does_not_depend_on_its_batch(kind: str, size: int) -> None:
    network = randomised(net(kind, 1, size, depth=2))
    x, level, cond = inputs(9, 1, size, size)
    whole = network(x, level, cond)
    for rows in (slice(0, 1), slice(4, 5), slice(3, 9)):
        part = network(x[rows], level[rows], {"label": cond["label"][rows]})
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-5)


@every
def test_the_output_depends_on_each_input_of_its_own_sample_alone(kind: str) -> None:
    network = randomised(net(kind))
    x, level, cond = inputs(3, 1, 8, 8)
    plain = network(x, level, cond)

    def changed(*given: object) -> list[bool]:
        return [bool((row != old).any()) for row, old in zip(network(*given), plain, strict=True)]

    one = torch.tensor([0.0, 1.0, 0.0])
    assert changed(x, level + 0.01 * one, cond) == [False, True, False]
    assert changed(x, level, {"label": torch.tensor([0, 3, 2])}) == [False, True, False]
    assert changed(x + 0.01 * one[:, None, None, None], level, cond) == [False, True, False]


@every
@pytest.mark.parametrize("size", [9, 16])
def test_every_pixel_can_see_every_pixel(kind: str, size: int) -> None:
    network = randomised(net(kind, 1, size))
    x, level, cond = inputs(1, 1, size, size)
    x.requires_grad_()
    corner = network(x, level, cond)[0, 0, 0, 0]
    (gradient,) = torch.autograd.grad(corner, x)
    assert bool((gradient != 0).all())


@every
def test_no_condition_is_the_null(kind: str) -> None:
    network = randomised(net(kind))
    x, level, _ = inputs(2, 1, 8, 8)
    assert torch.equal(network(x, level), network(x, level, {"label": torch.tensor([3, 3])}))


@every
def test_without_classes_there_are_no_labels(kind: str) -> None:
    network = randomised(net(kind, classes=0))
    x, level, cond = inputs(2, 1, 8, 8)
    assert torch.equal(network(x, level), network(x, level, cond))
    assert not any("label" in name for name, _ in network.named_parameters())


@every
@pytest.mark.parametrize("size", [8, 28])
def test_gradients_reach_every_parameter(kind: str, size: int) -> None:
    network = randomised(net(kind, 1, size))
    x, level, cond = inputs(8, 1, size, size)
    network(x, level, cond).square().sum().backward()
    lacking = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert lacking == []


@every
def test_training_moves_every_parameter_from_where_it_begins(kind: str) -> None:
    """What begins as zero keeps nothing else from ever learning."""
    network = net(kind, 1, 8)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    x, level, cond = inputs(8, 1, 8, 8)
    for _ in range(4):
        (network(x, level, cond) - x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, p in network.named_parameters() if torch.equal(p, before[name])] == []


@every
def test_it_runs_in_bf16(kind: str) -> None:
    network = randomised(net(kind, 3, 28))
    given = inputs(2, 3, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*given)
    exact = network(*given)
    assert rough.dtype == torch.bfloat16 and 0 < (rough - exact).norm() < 0.1 * exact.norm()


@every
def test_dropout_acts_in_training_alone(kind: str) -> None:
    network = randomised(net(kind, dropout=0.5))
    given = inputs(2, 1, 8, 8)
    assert torch.equal(network(*given), network(*given))
    network.train()
    assert not torch.equal(network(*given), network(*given))


@every
def test_depth_grows_the_network(kind: str) -> None:
    counts = [sum(p.numel() for p in net(kind, depth=depth).parameters()) for depth in (1, 2, 3)]
    assert counts == sorted(set(counts))


@every
def test_a_recipe_builds_it(kind: str) -> None:
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in SMALL[kind].items()}
    recipe = check({"data": {"kind": "digits"}, "network": {"kind": kind, **options}})
    network = recipe.build("network", channels=1, size=8, classes=3, outputs=1)
    assert type(network) is type(net(kind))
    assert [p.shape for p in network.parameters()] == [p.shape for p in net(kind).parameters()]
