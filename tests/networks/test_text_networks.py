"""Networks told of text: what is not there has no influence, nothing said is the null, and without text they are what they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_every_network import net, randomised
from torch import Tensor, nn

from carrara.networks.recompute import recompute
from carrara.networks.text import TextAttention

STATES: dict[str, Any] = {"text_width": 12, "text_length": 5}
LETTERS: dict[str, Any] = {"text_vocab": 256, "text_length": 5}
kinds = pytest.mark.parametrize("kind", ["unet", "dit"])
ways = pytest.mark.parametrize("told", [STATES, LETTERS], ids=["states", "letters"])


def written(count: int, told: dict[str, Any], length: int = 5) -> dict[str, Tensor]:
    """Texts of 0, 1, 2, … tokens in turn, with something in the places that are empty."""
    generator = torch.Generator().manual_seed(4)
    mask = torch.arange(length) < (torch.arange(count) % (length + 1))[:, None]
    if "text_vocab" in told:
        return {"text": torch.randint(0, 256, (count, length), generator=generator), "text_mask": mask}
    return {"text": torch.randn(count, length, 12, generator=generator), "text_mask": mask}


def given(count: int, told: dict[str, Any], size: int = 8) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    x = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))
    return x, torch.linspace(0, 1, count), written(count, told)


def reading(kind: str, told: dict[str, Any], size: int = 8, **options: Any) -> nn.Module:
    return randomised(net(kind, 1, size, 0, **told, **options))


@kinds
@ways
def test_what_is_not_there_has_no_influence(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, told), given(7, told)
    filled = cond["text"].masked_fill(
        ~(cond["text_mask"] if "text_vocab" in told else cond["text_mask"][..., None]),
        99 if "text_vocab" in told else float("nan"),
    )
    assert torch.equal(network(x, level, {**cond, "text": filled}), network(x, level, cond))


@kinds
@ways
def test_padding_changes_nothing(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, {**told, "text_length": 9}), given(7, told)
    more = torch.zeros(7, 4, *cond["text"].shape[2:], dtype=cond["text"].dtype)
    longer = {
        "text": torch.cat([cond["text"], more], 1),
        "text_mask": torch.cat([cond["text_mask"], torch.zeros(7, 4).bool()], 1),
    }
    torch.testing.assert_close(network(x, level, longer), network(x, level, cond), rtol=1e-5, atol=1e-5)


@kinds
@ways
def test_each_token_that_is_there_tells_its_own_sample_something(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, told), given(6, told)
    plain = network(x, level, cond)
    for row, place in ((5, 0), (5, 4), (2, 1)):
        text = cond["text"].clone()
        text[row, place] = text[row, place].flip(0) if "text_width" in told else (text[row, place] + 1) % 256
        changed = (network(x, level, {**cond, "text": text}) != plain).flatten(1).any(1)
        assert changed.tolist() == [index == row for index in range(6)]


@kinds
def test_the_order_of_letters_tells_something(kind: str) -> None:
    network, (x, level, cond) = reading(kind, LETTERS), given(6, LETTERS)
    turned = {**cond, "text": cond["text"].flip(1)}
    assert not torch.equal(network(x, level, turned)[5], network(x, level, cond)[5])


@kinds
@ways
def test_no_condition_is_the_empty_text(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, told), given(3, told)
    empty = {**cond, "text_mask": torch.zeros_like(cond["text_mask"])}
    torch.testing.assert_close(network(x, level), network(x, level, empty), rtol=1e-5, atol=1e-6)


@kinds
@ways
def test_told_of_text_it_begins_as_the_network_that_is_not(kind: str, told: dict[str, Any]) -> None:
    """The same names, the same draws, and the same output: what hears of text comes last and adds nothing at first."""
    deaf, hearing = net(kind, 1, 8, 0), net(kind, 1, 8, 0, **told)
    ours, theirs = dict(hearing.named_parameters()), dict(deaf.named_parameters())
    assert [name for name in ours if name in theirs] == list(theirs) and len(ours) > len(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(word in name for name in theirs for word in ("text", "told"))
    with torch.no_grad():
        for name, parameter in theirs.items():
            if not bool(parameter.any()):
                parameter.normal_()
                ours[name].copy_(parameter)
    x, level, cond = given(6, told)
    assert torch.equal(hearing.eval()(x, level, cond), deaf.eval()(x, level)) and bool(deaf(x, level).any())


def test_the_unet_hears_where_it_attends() -> None:
    network = net("unet", 1, 32, 0, **STATES)
    parts = (*network.down, network.middle, *network.up)
    assert {isinstance(part.attention, nn.Identity) for part in parts if hasattr(part, "attention")} == {True, False}
    for part in parts:
        if hasattr(part, "attention"):
            assert isinstance(part.told, TextAttention) != isinstance(part.attention, nn.Identity)


@kinds
@ways
def test_training_moves_every_parameter(kind: str, told: dict[str, Any]) -> None:
    network = net(kind, 1, 8, 0, **told)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    x, level, cond = given(12, told)
    for _ in range(6):
        (network(x, level, cond) - x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, p in network.named_parameters() if torch.equal(p, before[name])] == []


@kinds
@ways
def test_recomputing_gives_the_same_gradients(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, told, dropout=0.2).train(), given(6, told)

    def gradients() -> dict[str, Tensor]:
        network.zero_grad()
        torch.manual_seed(2)
        network(x, level, cond).square().sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    plain = gradients()
    recompute(network)
    again = gradients()
    assert plain.keys() == again.keys() == dict(network.named_parameters()).keys()
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


@kinds
@ways
def test_it_runs_in_bf16(kind: str, told: dict[str, Any]) -> None:
    network, inputs = reading(kind, told, 16), given(4, told, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(*inputs)
    exact = network(*inputs)
    assert rough.dtype == torch.bfloat16 and 0 < (rough - exact).norm() < 0.1 * exact.norm()


@kinds
@ways
def test_a_sample_does_not_depend_on_its_batch(kind: str, told: dict[str, Any]) -> None:
    network, (x, level, cond) = reading(kind, told), given(6, told)
    whole = network(x, level, cond)
    for rows in (slice(0, 1), slice(5, 6), slice(2, 5)):
        part = network(x[rows], level[rows], {name: value[rows] for name, value in cond.items()})
        torch.testing.assert_close(part, whole[rows], rtol=1e-5, atol=1e-5)


@kinds
@ways
def test_how_far_a_token_is_there_is_its_weight(kind: str, told: dict[str, Any]) -> None:
    """Of whole weights nothing changes, to the bit; two halves of a token are one; and what comes, comes little by little."""
    network, (x, level, cond) = reading(kind, told), given(7, told)
    whole = network(x, level, cond)
    assert torch.equal(network(x, level, {**cond, "text_mask": cond["text_mask"].float()}), whole)
    with torch.no_grad():
        almost = {**cond, "text_mask": cond["text_mask"].float().clamp(min=1e-6)}
        torch.testing.assert_close(network(x, level, almost), whole, rtol=0, atol=1e-3)
    if "text_vocab" not in told:
        twice = {name: value[:, [0, 0, 1, 2, 3]] for name, value in written(7, told).items()}
        halves = twice["text_mask"] * torch.tensor([0.3, 0.7, 1, 1, 1])
        once = {**cond, "text_mask": cond["text_mask"] & (torch.arange(5) < 4)}
        torch.testing.assert_close(network(x, level, {**twice, "text_mask": halves}), network(x, level, once))
