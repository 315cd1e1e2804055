"""Recomputing: the same gradients bit for bit, and less that is kept."""

from typing import Any

import pytest
import torch
from test_every_network import every, inputs, net, randomised
from torch import Tensor, nn

from carrara.errors import InputError
from carrara.networks.recompute import Recomputable, recompute


def gradients(network: nn.Module, bf16: bool, size: int = 16) -> dict[str, Tensor]:
    """The gradients of one step, of x and of every parameter, with dropout drawn from a fixed seed."""
    x, level, cond = inputs(4, 1, size, size)
    x.requires_grad_()
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network(x, level, cond)
    torch.rand(3)  # What is drawn between forward and backward changes nothing.
    out.float().square().sum().backward()
    found = {"x": x, **dict(network.named_parameters())}
    kept = {name: tensor.grad.clone() for name, tensor in found.items() if tensor.grad is not None}
    network.zero_grad()
    assert len(kept) == len(found)
    return kept


def bytes_kept(network: nn.Module, size: int = 32) -> int:
    """The bytes of all that forward keeps for backward, beside the parameters, of pictures of this size."""
    return bytes_kept_by(network, inputs(4, 1, size, size))


def bytes_kept_by(network: nn.Module, given: tuple[Any, ...]) -> int:
    """The bytes of all that forward keeps for backward, beside the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*given)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@every
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_gradients_are_the_same_bit_for_bit(kind: str, bf16: bool) -> None:
    network = randomised(net(kind, 1, 16, depth=2, dropout=0.2)).train()
    plain = gradients(network, bf16)
    recompute(network)
    again = gradients(network, bf16)
    assert [name for name, gradient in plain.items() if not torch.equal(again[name], gradient)] == []


@every
def test_less_is_kept(kind: str) -> None:
    network = net(kind, 1, 32, depth=4)
    plain = bytes_kept(network)
    recompute(network)
    assert bytes_kept(network) < 0.4 * plain
    recompute(network, False)
    assert bytes_kept(network) == plain


@every
def test_where_nothing_is_trained_nothing_changes(kind: str) -> None:
    network = randomised(net(kind))
    calls: list[nn.Module] = []
    for part in network.modules():
        if isinstance(part, Recomputable):
            part.register_forward_pre_hook(lambda part, _: calls.append(part))
    recompute(network)
    with torch.no_grad():
        network(*inputs(2, 1, 8, 8))
    once = len(calls)
    network(*inputs(2, 1, 8, 8)).sum().backward()
    assert once > 0 and len(calls) == 3 * once, "once without gradients; with them once forward and once again"


def test_a_network_without_such_parts_is_refused() -> None:
    with pytest.raises(InputError, match=r"training\.checkpointing is true, and Linear has no part"):
        recompute(nn.Linear(2, 2))
    recompute(nn.Linear(2, 2), False)
