"""Muon's orthogonal steps: what they bring near 1, what they leave, and that no matrix changes another."""

import pytest
import torch
from torch import Tensor

from carrara.training.muon import LEAST, Muon, orthogonal, polynomials


def with_values(values: Tensor, shape: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix of these singular values, and the one of the same singular vectors whose values are all 1."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, _, right = torch.linalg.svd(noise, full_matrices=False)
    return ((left * values) @ right).float(), (left @ right).float()


@pytest.mark.parametrize("shape", [(24, 100), (100, 24), (64, 64)])
@pytest.mark.parametrize("least", [1.0, 0.1, 0.05])
def test_singular_values_are_brought_near_one(shape: tuple[int, int], least: float) -> None:
    values = torch.logspace(0, torch.tensor(least).log10().item(), min(shape), dtype=torch.float64)
    matrix, nearest = with_values(values, shape)
    made = orthogonal(matrix[None])[0].float()
    strengths = torch.linalg.svdvals(made)
    assert 0.65 < float(strengths.min()) <= float(strengths.max()) < 1.32
    assert float(torch.nn.functional.cosine_similarity(made.flatten(), nearest.flatten(), 0)) > 0.97


def test_more_rounds_come_nearer() -> None:
    matrix, nearest = with_values(torch.logspace(0, -1, 32, dtype=torch.float64), (32, 48))
    errors = [float((orthogonal(matrix[None], rounds)[0].float() - nearest).norm()) for rounds in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.1 * errors[0]


def test_what_is_tiny_grows_and_never_beyond_the_rest() -> None:
    matrix, _ = with_values(torch.cat([torch.ones(8), torch.full((8,), 1e-4)]).double(), (16, 40))
    strengths = torch.linalg.svdvals(orthogonal(matrix[None])[0].float())
    assert float(strengths.max()) < 1.32
    assert bool((strengths[8:] > 20 * 1e-4 * strengths[0]).all())


def test_scale_and_side_make_no_difference_and_neither_do_neighbours() -> None:
    matrices = torch.stack([with_values(torch.linspace(1, 0.2, 16).double(), (16, 30), seed)[0] for seed in range(3)])
    made = orthogonal(matrices)
    assert torch.equal(orthogonal(matrices * 1024), made)
    assert torch.equal(orthogonal(matrices.mT.contiguous()).mT, made)
    beside_others = orthogonal(torch.cat([matrices[:1], 100 * torch.randn(2, 16, 30)]))
    torch.testing.assert_close(beside_others[0], made[0], rtol=0, atol=2**-7)


def test_no_gradient_is_no_step() -> None:
    assert not orthogonal(torch.zeros(2, 5, 3)).any()
    still = torch.nn.Parameter(torch.ones(4, 4))
    alone = torch.nn.Parameter(torch.ones(4, 4))
    still.grad = torch.zeros(4, 4)
    Muon([still, alone], lr=0.1).step()
    assert bool((still == 1).all())
    assert bool((alone == 1).all())


def test_each_polynomial_reaches_its_error_at_both_ends_and_between() -> None:
    """The law of the best approximation: the largest error four times, with signs in turn; four are one more than coefficients."""
    low, high = LEAST, 1.02
    a, b, c = polynomials(1, LEAST)[0]
    x = torch.linspace(low, high, 100_001, dtype=torch.float64)
    error = a * x + b * x**3 + c * x**5 - 1
    largest = float(error.abs().max())
    ends = torch.where(error.abs() > largest * (1 - 1e-6))[0]
    signs = [int(sign) for sign in torch.unique_consecutive(error[ends].sign())]
    assert signs == [-1, 1, -1, 1]


def test_torchs_muon_walks_nearly_the_same_way() -> None:
    """Both follow the momentum made orthogonal; they differ in how near to it they come."""
    weights = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(weights.clone()), torch.nn.Parameter(weights.clone())
    rules = (
        Muon([ours], lr=0.01),
        torch.optim.Muon([theirs], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    )
    for seed in range(5):
        gradient = torch.randn(24, 40, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for rule in rules:
            rule.step()
    moved, peers = (ours - weights).detach().flatten(), (theirs - weights).detach().flatten()
    assert float(torch.nn.functional.cosine_similarity(moved, peers, 0)) > 0.98
    assert float(moved.norm() / peers.norm()) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-21, 1e-19, 1e-10, 1e10, 1e19, 1e37])
def test_what_is_next_to_nothing_has_a_step_as_long_as_any(scale: float) -> None:
    """A gradient that is 0 from some step on leaves a momentum that becomes so small."""
    matrix = torch.randn(2, 48, 64, generator=torch.Generator().manual_seed(3)) / 8
    step = orthogonal(matrix * scale).float()
    near = torch.nn.functional.cosine_similarity(step.flatten(), orthogonal(matrix).float().flatten(), 0)
    assert bool(torch.isfinite(step).all()) and float(near) > 0.999


def test_rounding_is_as_it_would_be_at_any_power_of_two() -> None:
    matrix = torch.randn(1, 48, 64, generator=torch.Generator().manual_seed(4))
    assert torch.equal(orthogonal(matrix), orthogonal(matrix * 2.0**-70))
