"""Pictures as words: every word comes back, rounding has a gradient, and the network's ways there and back fit together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from carrara.errors import InputError
from carrara.networks.autoencoder import Autoencoder
from carrara.networks.quantiser import FiniteScalar
from carrara.networks.recompute import recompute

LEVELS = [(8, 8, 8), (2,), (3, 5), (7, 2, 4, 3)]


def net(channels: int = 1, down: int = 2, **options: int) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(channels, (4, 3), down, **{"width": 8, "depth": 1, **options})


def randomised(network: Autoencoder) -> Autoencoder:
    """The network with its branches, which begin as nothing, drawn at random."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("levels", LEVELS)
def test_every_word_comes_back(levels: tuple[int, ...]) -> None:
    words = FiniteScalar(levels)
    ids = torch.arange(words.vocab)[:, None, None]
    codes = words.codes(ids)
    assert words.vocab == math.prod(levels) and codes.shape == (words.vocab, len(levels), 1, 1)
    assert len({tuple(code.flatten().tolist()) for code in codes}) == words.vocab
    assert torch.equal(words.ids(codes.atanh()), ids)
    torch.testing.assert_close(words(codes.atanh()), codes)
    assert torch.equal(codes.mean(0).abs() < 1e-6, torch.ones(len(levels), 1, 1, dtype=torch.bool))


@pytest.mark.parametrize("levels", LEVELS)
def test_ids_are_those_of_the_codes(levels: tuple[int, ...]) -> None:
    """Also far out, where tanh is 1 in float32."""
    words = FiniteScalar(levels)
    z = 3 * torch.randn(4, len(levels), 5, 6, generator=torch.Generator().manual_seed(0))
    z[0, :, 0, 0], z[1, :, 0, 0] = 1e4, -1e4
    ids = words.ids(z)
    assert ids.dtype == torch.int64 and ids.shape == (4, 5, 6)
    assert (int(ids[1, 0, 0]), int(ids[0, 0, 0])) == (0, words.vocab - 1)
    torch.testing.assert_close(words.codes(ids), words(z))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_code_is_the_nearest_and_every_part_is_equally_wide(count: int) -> None:
    bounded = torch.linspace(-0.999, 0.999, 4001, dtype=torch.float64)
    codes = FiniteScalar([count])(bounded.atanh().float()[None, None, None]).flatten().double()
    assert float((codes - bounded).abs().max()) <= 1 / count + 1e-4
    assert float((codes - bounded).square().mean()) == pytest.approx(1 / (3 * count**2), rel=0.01)
    shares = codes.unique(return_counts=True)[1] / len(codes)
    torch.testing.assert_close(shares, torch.full((count,), 1 / count), rtol=0, atol=2e-3)


def test_rounding_is_not_there_backwards() -> None:
    z = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    through, plain = (
        torch.autograd.grad((f(z) * torch.arange(9.0).view(3, 3)).sum(), z)[0]
        for f in (FiniteScalar([4, 3]), torch.tanh)
    )
    torch.testing.assert_close(through, plain)
    assert bool(through.any())


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (7, 9), (28, 28), (8, 30)])
@pytest.mark.parametrize("down", [1, 2, 3])
def test_shapes_there_and_back(size: tuple[int, int], down: int) -> None:
    network = net(3, down)
    x = torch.rand(2, 3, *size) * 2 - 1
    ids = network.ids(x)
    assert ids.shape == (2, *network.grid(*size)) == (2, *(-(-side // 2**down) for side in size))
    assert network(x).shape == x.shape == network.back(network.quantiser.codes(ids), size).shape


def test_what_comes_back_is_made_of_ids_alone() -> None:
    network = randomised(net()).eval()
    x = torch.rand(3, 1, 12, 12) * 2 - 1
    torch.testing.assert_close(network.back(network.quantiser.codes(network.ids(x)), (12, 12)), network(x))


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_every_parameter_learns_and_may_be_recomputed(bf16: bool) -> None:
    network = randomised(net(depth=2))
    x = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(2)) * 2 - 1

    def gradients() -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = network(x)
        (y.float() - x).square().sum().backward()
        found = {
            name: parameter.grad.clone()
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        network.zero_grad()
        return found

    plain = gradients()
    assert plain.keys() == dict(network.named_parameters()).keys() and all(bool(g.any()) for g in plain.values())
    recompute(network)
    again = gradients()
    assert [name for name, gradient in plain.items() if not torch.equal(again[name], gradient)] == []


def test_nothing_but_parameters_is_saved() -> None:
    network = net()
    assert network.state_dict().keys() == dict(network.named_parameters()).keys()
    assert not list(FiniteScalar([8, 8]).parameters()) and isinstance(network, nn.Module)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"down": 0}, r"trainable.down is 0; it must be at least 1 halving"),
        ({"width": 12}, r"trainable.width is 12; it must be a multiple of 8"),
        ({"depth": 0}, r"trainable.depth is 0; it must be at least 1 block"),
    ],
)
def test_what_makes_no_network_is_refused(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        net(**options)


@pytest.mark.parametrize("levels", [(), (1, 8)])
def test_levels_that_are_none_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="one or more numbers, each 2 or more"):
        FiniteScalar(levels)
