"""The transformer over vectors: its shapes, its beginning as nothing, and what its output depends on."""

from typing import Any

import pytest
import torch
from torch import Tensor

from carrara import native
from carrara.errors import InputError, RecipeError
from carrara.networks.sequences import Sequences
from carrara.networks.tokens import TokenTransformer
from carrara.networks.vectors import VectorTransformer
from carrara.recipe import check

DATA = {"channels": 6, "length": 9, "classes": 3, "source_vocab": 5, "source_length": 4}
SMALL = {"neighbours": 1, "placed": True, "width": 16, "head_width": 8, "depth": 2}
kernels = pytest.mark.parametrize("kernels", ["native", "torch"])


def net(**options: Any) -> VectorTransformer:
    torch.manual_seed(0)
    return VectorTransformer(**{**DATA, **SMALL, **options})


def randomised(network: VectorTransformer) -> VectorTransformer:
    """The network with every parameter that begins as zero drawn at random, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(count: int = 3, length: int = 9) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x, source = torch.randn(count, length, 6, generator=draw), torch.randint(0, 5, (count, 4), generator=draw)
    return x, torch.linspace(0, 1, count), {"label": torch.arange(count) % 3, "source": source}


@pytest.mark.parametrize("options", [{}, {"classes": 0, "source_vocab": 0, "source_length": 0}])
@pytest.mark.parametrize("length", [1, 9])
def test_the_output_has_the_input_s_shape_and_begins_as_zero(length: int, options: dict[str, Any]) -> None:
    out = net(**options)(*inputs(length=length))
    assert out.shape == (3, length, 6) and not bool(out.any())


@kernels
def test_each_output_sees_every_vector_and_where_it_stands(kernels: native.Kernels) -> None:
    network, (x, level, cond) = randomised(net()), inputs(1)
    with native.chosen(kernels):
        plain = network(x, level, cond)
        for j in (0, 4, 8):
            other = x.clone()
            other[:, j] += 1
            assert bool((network(other, level, cond) != plain).any(-1).all())
        assert not torch.allclose(network(x.flip(1), level, cond).flip(1), plain, atol=1e-3)


def test_the_output_depends_on_each_input_of_its_own_sample_alone() -> None:
    network, (x, level, cond) = randomised(net()), inputs()
    plain = network(x, level, cond)

    def changed(*given: Any) -> list[bool]:
        return [bool((row != old).any()) for row, old in zip(network(*given), plain, strict=True)]

    one = torch.tensor([0.0, 1.0, 0.0])
    assert changed(x, level + 0.01 * one, cond) == [False, True, False]
    assert changed(x, level, {**cond, "label": torch.tensor([0, 3, 2])}) == [False, True, False]
    assert changed(x + one[:, None, None], level, cond) == [False, True, False]
    source = cond["source"].clone()
    source[1, 2] = 5
    assert changed(x, level, {**cond, "source": source}) == [False, True, False]
    null = {"label": torch.full((3,), 3), "source": torch.full((3, 4), 5)}
    assert torch.equal(network(x, level), network(x, level, null))


def test_training_moves_every_parameter_from_where_it_begins() -> None:
    network = net()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    x, level, cond = inputs(8)
    for _ in range(4):
        (network(x, level, cond) - x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, p in network.named_parameters() if torch.equal(p, before[name])] == []


def test_it_runs_in_bf16() -> None:
    network = randomised(net())
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*inputs())
    exact = network(*inputs())
    assert rough.dtype == torch.bfloat16 and 0 < (rough - exact).norm() < 0.1 * exact.norm()


def test_it_is_the_transformer_of_tokens_but_for_both_ends() -> None:
    vectors, tokens = net(), TokenTransformer(11, 9, 3, 5, 4, told_level=True, **SMALL)
    assert isinstance(vectors, Sequences) and isinstance(tokens, Sequences)
    ours, theirs = ({name: p.shape for name, p in n.named_parameters()} for n in (vectors, tokens))
    ends = {"enter.weight", "enter.bias", "token.weight", "leave.weight", "leave.bias"}
    assert {**ours, **theirs}.keys() - ends == ours.keys() - ends == theirs.keys() - ends
    assert all(ours[name] == theirs[name] for name in ours.keys() - ends)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, r"network\.channels is 0"),
        ({"neighbours": -1}, r"network\.neighbours is -1"),
        ({"length": 0}, r"network\.length is 0"),
        ({"width": 12}, r"network\.width is 12; it must be a multiple of network\.head_width, 8"),
        ({"depth": 0}, r"network\.depth is 0"),
        ({"dropout": 1.0}, r"network\.dropout is 1"),
    ],
)
def test_what_makes_no_network_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        net(**options)


def test_longer_sequences_are_refused() -> None:
    with pytest.raises(InputError, match="there are 10 tokens, and the network was made for 9 at most"):
        net()(*inputs(length=10))


def test_a_recipe_builds_it_for_vectors_alone() -> None:
    recipe = check({"data": {"kind": "digits"}, "network": {"kind": "vectors", **SMALL}})
    made = recipe.build("network", channels=6, length=9)
    assert isinstance(made, VectorTransformer) and made.heads == 2
    with pytest.raises(RecipeError, match="'vectors' is for other data: it needs to know length"):
        recipe.build("network", channels=1, size=8)
