"""DDPM's U-Net: its options; that it is diffusers' is shown in tests/oracles."""

from typing import Any

import pytest
import torch

from carrara.errors import InputError
from carrara.networks.unet2d import Attention, Downsample, Shared, UNet2D, sinusoids


def net(**options: Any) -> UNet2D:
    torch.manual_seed(0)
    return UNet2D(1, 8, 3, **{"widths": (8, 16), "groups": 4, "depth": 1, **options})


def attends(network: UNet2D) -> list[int]:
    return [i for i, layer in enumerate(network.down) if isinstance(getattr(layer, "attention", None), Attention)]


def test_attention_runs_at_all_resolutions_but_the_highest_unless_told() -> None:
    assert attends(net(widths=(8, 8, 8))) == [2, 4]
    assert attends(net(widths=(8, 8, 8), attend=(0, 2))) == [0, 4]
    assert attends(net(widths=(8, 8, 8), attend=())) == []


def test_by_default_it_has_ten_million_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet2D(1, 32).parameters())
    assert 9.5e6 < count < 9.7e6


def test_levels_are_told_apart() -> None:
    features = sinusoids(1000 * torch.linspace(0, 1, 1001), 64)
    assert features.shape == (1001, 64) and features.abs().max() <= 1
    distance = torch.cdist(features, features) + 10 * torch.eye(1001)
    assert distance.min() > 0.1


def test_sinusoids_are_sines_and_cosines() -> None:
    number = torch.tensor([0.0, 1.0, 70.0])
    expected = torch.stack([(number / 10_000 ** (i / 3)).cos() for i in range(3)], dim=1)
    torch.testing.assert_close(sinusoids(number, 7)[:, :3], expected)
    assert not bool(sinusoids(number, 7)[:, 6].any())
    assert torch.equal(sinusoids(number, 6, cos_first=False), sinusoids(number, 6).roll(3, dims=1))
    last = sinusoids(number, 6, freq_shift=1)[:, 2]
    torch.testing.assert_close(last, (number / 10_000).cos())


def test_a_label_may_be_left_out_where_the_number_is_given() -> None:
    network, x = net(), torch.randn(2, 1, 8, 8)
    torch.nn.init.normal_(network.leave.weight)
    number = torch.tensor([3.0, 700.0])
    assert torch.equal(network.at(x, number), network.at(x, number, torch.tensor([3, 3])))
    torch.testing.assert_close(network(x, number / 1000), network.at(x, number), rtol=1e-4, atol=1e-4)


def test_attention_is_attention() -> None:
    """Against torch's own, with heads that leave two channels out."""
    block = Attention(18, Shared(8, 2, 1e-5, 0.0, 8, False))
    torch.nn.init.normal_(block.out.weight)
    x = torch.randn(2, 18, 3, 5)
    tokens = block.norm(x).flatten(2).transpose(1, 2)
    q, k, v = block.qkv(tokens).reshape(2, 15, 3, 2, 8).permute(2, 0, 3, 1, 4)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 15, 16)
    torch.testing.assert_close(block(x), x + block.out(mixed).transpose(1, 2).reshape(2, 18, 3, 5))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_side_is_halved(padding: int) -> None:
    assert Downsample(4, padding)(torch.randn(1, 4, 6, 10), torch.zeros(1)).shape == (1, 4, 3, 5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"widths": ()}, r"network\.widths is \(\); it must be one number of channels a resolution"),
        ({"widths": (8, 14)}, r"network\.widths is \(8, 14\); it must be multiples of network\.groups, 4"),
        ({"widths": (0, 8)}, r"network\.widths is \(0, 8\)"),
        ({"groups": 0}, r"network\.groups is 0; it must be at least 1"),
        ({"depth": 0}, r"network\.depth is 0; it must be at least 1"),
        ({"attend": (2,)}, r"network\.attend is \(2,\); it must be resolutions from 0, the highest, to 1"),
        ({"attend": (-1,)}, r"network\.attend is \(-1,\)"),
        ({"head_width": 17}, r"network\.head_width is 17; it must be at least 1 and at most 16"),
        ({"head_width": 9, "attend": (0,)}, r"network\.head_width is 9; .* at most 8"),
        ({"head_width": 0}, r"network\.head_width is 0"),
        ({"dropout": 1.0}, r"network\.dropout is 1\.0"),
        ({"down_padding": 2}, r"network\.down_padding is 2; it must be 0 or 1"),
        ({"freq_shift": 4}, r"network\.freq_shift is 4; it must be at least 0 and below 4"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)
