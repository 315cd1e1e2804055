"""What moves the weights: AdamW, and Muon for inner matrices."""

import copy
from pathlib import Path

import pytest
import torch
from small import BATCH, differing, opened, state, stepped, trained
from torch import nn

from carrara.errors import RecipeError
from carrara.recipe import changed, check
from carrara.training.optimisers import Optimiser, matrices
from carrara.training.settings import Training

MUON = ("training.optimiser=muon",)


def player() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 12), nn.Linear(12, 20), nn.Conv2d(3, 5, 3), nn.Linear(20, 7))


def with_gradients(made: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in made.parameters():
        parameter.grad = torch.randn_like(parameter)
    return made


def test_inner_matrices_are_neither_embeddings_nor_the_last() -> None:
    made = player()
    found = matrices(made)
    assert {name: tuple(m.shape) for name, m in found.items()} == {"1.weight": (20, 12), "2.weight": (5, 27)}
    for name, matrix in found.items():
        with torch.no_grad():
            matrix.fill_(3.0)
        assert bool((made.get_parameter(name) == 3.0).all()), "they are the parameters, not copies"


def test_a_step_of_muon_turns_all_directions_alike_and_is_as_long_as_adamws() -> None:
    made = with_gradients(player())
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    Optimiser(made, Training(optimiser="muon", lr=0.01)).step(0.01)
    for name in ("1.weight", "2.weight"):
        moved = (made.get_parameter(name).detach() - before[name]).flatten(1)
        strength = torch.linalg.svdvals(moved) / (0.01 * 0.2 * max(moved.shape) ** 0.5)
        assert 0.6 < float(strength.min()) <= float(strength.max()) < 1.3
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)


def test_the_rest_is_moved_as_by_adamw_alone() -> None:
    ours, theirs = with_gradients(player()), with_gradients(player())
    Optimiser(ours, Training(optimiser="muon", lr=0.01)).step(0.02)
    Optimiser(theirs, Training(lr=0.01)).step(0.02)
    inner = matrices(ours)
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, theirs.get_parameter(name)) == (name not in inner)


def test_what_is_remembered_comes_back_and_steps_go_on_as_before() -> None:
    first = with_gradients(player())
    one = Optimiser(first, Training(optimiser="muon"))
    one.step(0.01)
    second = copy.deepcopy(first)
    other = Optimiser(second, Training(optimiser="muon"))
    other.restore(one.moments())
    for made, optimiser in ((first, one), (second, other)):
        with_gradients(made)
        optimiser.step(0.01)
    assert all(torch.equal(p, second.get_parameter(name)) for name, p in first.named_parameters())


def test_no_gradient_is_left() -> None:
    optimiser = Optimiser(with_gradients(player()), Training(optimiser="muon"))
    optimiser.step(0.01)
    optimiser.forget()
    assert all(p.grad is None for p in (*optimiser.named.values(), *optimiser.flat.values()))


def test_a_run_in_pieces_is_the_whole_run(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 6 * BATCH, MUON)
    trained(tmp_path / "pieces", 6 * BATCH, MUON, steps=2)
    pieces = stepped(opened(tmp_path / "pieces", 6 * BATCH, MUON))
    assert differing(state(whole), state(pieces)) == []
    assert any(key.endswith("momentum_buffer") for key in state(whole))
    adamw = trained(tmp_path / "adamw", 6 * BATCH)
    assert any(key.startswith("weight") and key in differing_of(state(whole), state(adamw)) for key in state(whole))


def differing_of(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Names of what both have and that differs."""
    return [key for key in one if key in other and not torch.equal(one[key], other[key])]


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"training\.optimiser"):
        check(
            changed(
                {"name": "x", "data": {"kind": "digits"}, "network": {"kind": "unet"}}, ["training.optimiser=sgd"]
            )
        )
