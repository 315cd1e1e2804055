"""The U-Net: its shapes, its beginning as nothing, and what its output depends on."""

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.networks.blocks import Attention, Fourier, Residual, groups
from carrara.networks.unet import UNet

SIZES = [1, 2, 3, 7, 8, 9, 16, 17, 24, 28, 30, 32, 64]


def randomised(network: UNet) -> UNet:
    """The network with every layer that begins as zero drawn at random, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def net(channels: int = 1, size: int = 8, classes: int = 3, **options: float) -> UNet:
    torch.manual_seed(0)
    return UNet(channels, size, classes, **{"width": 8, "depth": 1, **options})


def inputs(count: int, channels: int, *sides: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, channels, *sides, generator=generator)
    return x, torch.linspace(0, 1, count), {"label": torch.arange(count) % 4}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_the_output_has_the_input_s_shape_and_begins_as_zero(size: int, channels: int) -> None:
    network = net(channels, size)
    out = network(*inputs(2, channels, size, size))
    assert out.shape == (2, channels, size, size) and not bool(out.any())
    again = randomised(network)(*inputs(2, channels, size, size))
    assert again.shape == (2, channels, size, size) and bool(torch.isfinite(again).all())
    assert again.std() > 1e-3


@pytest.mark.parametrize("sides", [(8, 5), (5, 8), (32, 20), (13, 28)])
def test_pictures_need_not_be_square(sides: tuple[int, int]) -> None:
    network = randomised(net(3, max(sides)))
    assert network(*inputs(2, 3, *sides)).shape == (2, 3, *sides)


@pytest.mark.parametrize("size", [8, 28])
def test_a_sample_s_output_does_not_depend_on_its_batch(size: int) -> None:
    network = randomised(net(1, size, depth=2))
    x, level, cond = inputs(9, 1, size, size)
    whole = network(x, level, cond)
    for rows in (slice(0, 1), slice(4, 5), slice(3, 9)):
        part = network(x[rows], level[rows], {"label": cond["label"][rows]})
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-5)


def test_the_output_depends_on_each_input_of_its_own_sample_alone() -> None:
    network = randomised(net())
    x, level, cond = inputs(3, 1, 8, 8)
    plain = network(x, level, cond)

    def changed(*given: object) -> list[bool]:
        return [bool((row != old).any()) for row, old in zip(network(*given), plain, strict=True)]

    one = torch.tensor([0.0, 1.0, 0.0])
    assert changed(x, level + 0.01 * one, cond) == [False, True, False]
    assert changed(x, level, {"label": torch.tensor([0, 3, 2])}) == [False, True, False]
    assert changed(x + 0.01 * one[:, None, None, None], level, cond) == [False, True, False]


def test_every_pixel_can_see_every_pixel() -> None:
    """Attention spans the picture: no output pixel is without a gradient to an input pixel."""
    network = randomised(net(1, 16))
    x, level, cond = inputs(1, 1, 16, 16)
    x.requires_grad_()
    corner = network(x, level, cond)[0, 0, 0, 0]
    (gradient,) = torch.autograd.grad(corner, x)
    assert bool((gradient != 0).all())


def test_no_condition_is_the_null() -> None:
    network = randomised(net())
    x, level, _ = inputs(2, 1, 8, 8)
    assert torch.equal(network(x, level), network(x, level, {"label": torch.tensor([3, 3])}))


def test_without_classes_there_are_no_labels() -> None:
    network = randomised(net(classes=0))
    x, level, cond = inputs(2, 1, 8, 8)
    assert torch.equal(network(x, level), network(x, level, cond))
    assert not any("label" in name for name, _ in network.named_parameters())


def test_width_and_depth_grow_the_network() -> None:
    counts = [sum(p.numel() for p in net(width=width).parameters()) for width in (8, 16, 24, 32)]
    assert counts == sorted(set(counts)) and counts[2] > 3 * counts[0]
    assert sum(p.numel() for p in net(depth=2).parameters()) > counts[0]


@pytest.mark.parametrize("size", [8, 28])
def test_gradients_reach_every_parameter(size: int) -> None:
    network = randomised(net(1, size))
    x, level, cond = inputs(8, 1, size, size)
    network(x, level, cond).square().sum().backward()
    lacking = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert lacking == []


def test_it_runs_in_bf16() -> None:
    network = randomised(net(3, 28))
    given = inputs(2, 3, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*given)
    assert rough.dtype == torch.bfloat16
    exact = network(*given)
    assert (rough - exact).norm() < 0.1 * exact.norm()


def test_dropout_acts_in_training_alone() -> None:
    network = randomised(net(dropout=0.5))
    given = inputs(2, 1, 8, 8)
    assert torch.equal(network(*given), network(*given))
    network.train()
    assert not torch.equal(network(*given), network(*given))


@pytest.mark.parametrize("width", range(8, 129, 8))
@pytest.mark.parametrize("head_width", [8, 48, 64])
def test_heads_fit_every_width(width: int, head_width: int) -> None:
    for channels in (width, 2 * width, 4 * width):
        attention = Attention(channels, head_width)
        assert channels % attention.heads == 0 and attention.heads <= max(1, channels // head_width)
        assert channels % groups(channels) == 0
    assert Attention(256, 64).heads == 4 and Attention(32, 64).heads == 1


def test_a_wide_network_whose_heads_do_not_divide_evenly_runs() -> None:
    network = net(1, 64, width=56)
    assert network(*inputs(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0}, r"network\.width is 0; it must be a multiple of 8"),
        ({"width": 12}, r"network\.width is 12"),
        ({"depth": 0}, r"network\.depth is 0; it must be at least 1"),
        ({"head_width": 0}, r"network\.head_width is 0"),
        ({"dropout": 1.0}, r"network\.dropout is 1\.0"),
        ({"dropout": -0.1}, r"network\.dropout is -0\.1"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)


def test_a_residual_block_begins_as_the_identity() -> None:
    x, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    assert torch.equal(Residual(16, 16, 8)(x, emb), x)
    assert torch.equal(Attention(16)(x), x)


def test_attention_is_attention() -> None:
    """Against torch's own."""
    block = Attention(32, head_width=8)
    torch.nn.init.normal_(block.out.weight)
    x = torch.randn(2, 32, 3, 5)
    q, k, v = (part.transpose(-1, -2) for part in block.qkv(block.norm(x)).reshape(2, 3, 4, 8, 15).unbind(1))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(2, 32, 3, 5)
    torch.testing.assert_close(block(x), x + block.out(mixed))


def test_levels_are_told_apart() -> None:
    features = Fourier(64)(torch.linspace(0, 1, 1001))
    assert features.shape == (1001, 64) and features.abs().max() <= 1
    distance = torch.cdist(features, features) + 10 * torch.eye(1001)
    assert distance.min() > 0.1
