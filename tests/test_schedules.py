"""Schedules: their ends, derivatives and inverses, and the tables against exact arithmetic."""

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.processes import Gaussian
from carrara.schedules import (
    EDM,
    SCHEDULES,
    SURVIVALS,
    Cosine,
    CosineBeta,
    Flow,
    LinearBeta,
    MaskCosine,
    Polynomial,
    ScaledLinearBeta,
    Schedule,
    Table,
    VariancePreserving,
)

F64 = torch.float64
CASES: dict[str, Schedule] = {name: make() for name, make in (SCHEDULES | SURVIVALS).items()} | {
    "edm, 3": EDM(3.0),
    "polynomial, 3": Polynomial(3),
    "linear_beta, zero terminal": LinearBeta(zero_terminal=True),
    "scaled_linear_beta, zero terminal": ScaledLinearBeta(zero_terminal=True),
    "linear_beta, 7 steps": LinearBeta(7, 0.01, 0.5),
}
each = pytest.mark.parametrize("schedule", CASES.values(), ids=CASES)
TABLES = {name: schedule for name, schedule in CASES.items() if isinstance(schedule, Table)}
ONE = torch.ones((), dtype=F64)


def inside(count: int = 1000) -> Tensor:
    """Times in (0, 1), none of them on a knot of a table, dense near both ends."""
    middle = (torch.arange(count, dtype=F64) + 0.5) / count
    return torch.cat([torch.logspace(-8, -3.3, 12, dtype=F64), middle, 1 - torch.logspace(-3.3, -6, 12, dtype=F64)])


@each
def test_ends(schedule: Schedule) -> None:
    zero = torch.zeros((), dtype=F64)
    assert schedule.alpha(zero).item() == 1
    assert schedule.sigma(zero).item() == 0
    assert schedule.logsnr(zero).item() == math.inf
    assert schedule.zero_terminal is (schedule.alpha(ONE).item() == 0) is (schedule.logsnr(ONE).item() == -math.inf)
    assert schedule.exploding is isinstance(schedule, EDM)


def test_which_schedules_end_in_pure_noise() -> None:
    names = {name for name, schedule in CASES.items() if schedule.zero_terminal}
    assert names == {
        "flow", "polynomial", "polynomial, 3", "mask_cosine", "cosine",
        "linear_beta, zero terminal", "scaled_linear_beta, zero terminal",
    }  # fmt: skip


@each
def test_derivatives_are_central_differences(schedule: Schedule) -> None:
    t = (torch.arange(1000, dtype=F64) + 0.5) / 1000
    h = 1e-5
    for value, dot in ((schedule.alpha, schedule.alpha_dot), (schedule.sigma, schedule.sigma_dot)):
        torch.testing.assert_close(dot(t), (value(t + h) - value(t - h)) / (2 * h), rtol=1e-6, atol=1e-8)


@each
def test_derivatives_are_autograds(schedule: Schedule) -> None:
    t = inside().requires_grad_()
    for value, dot in ((schedule.alpha, schedule.alpha_dot), (schedule.sigma, schedule.sigma_dot)):
        out = value(t)
        gradient = torch.autograd.grad(out.sum(), t)[0] if out.requires_grad else torch.zeros_like(t)
        torch.testing.assert_close(dot(t).detach(), gradient, rtol=1e-12, atol=1e-12)


@each
def test_rate_is_minus_the_slope_of_logsnr(schedule: Schedule) -> None:
    t = ((torch.arange(1000, dtype=F64) + 0.5) / 1000).requires_grad_()
    slope = torch.autograd.grad(schedule.logsnr(t).sum(), t)[0]
    torch.testing.assert_close(schedule.rate(t), -slope, rtol=1e-9, atol=0)
    assert bool((schedule.rate(t) > 0).all())


@each
def test_logsnr_falls_strictly(schedule: Schedule) -> None:
    t = torch.cat([torch.linspace(0, 1, 5001, dtype=F64), inside()]).unique()
    assert bool((schedule.logsnr(t).diff() < 0).all())
    assert not bool(schedule.logsnr(t).isnan().any())


@each
def test_inverse_of_logsnr(schedule: Schedule) -> None:
    t = torch.cat([torch.linspace(0, 1, 5001, dtype=F64), inside()])
    back = schedule.inverse(schedule.logsnr(t))
    assert back.shape == t.shape
    # Where logsnr changes little with t, one rounding of it is many of t: near t = 1 of the flow and the tables.
    torch.testing.assert_close(back, t, rtol=1e-12, atol=1e-13)
    small = torch.logspace(-12, -3, 40, dtype=F64)
    torch.testing.assert_close(schedule.inverse(schedule.logsnr(small)), small, rtol=1e-10, atol=0)


@each
def test_inverse_beyond_the_range_gives_the_ends(schedule: Schedule) -> None:
    beyond = schedule.inverse(torch.tensor([math.inf, 1e4, -1e4, -math.inf], dtype=F64))
    torch.testing.assert_close(beyond, torch.tensor([0.0, 0, 1, 1], dtype=F64), rtol=0, atol=1e-12)
    assert bool((beyond <= 1).all() and (beyond >= 0).all())


@each
def test_level_rises_from_0_within_1(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 2001, dtype=F64)
    level = schedule.level(t)
    assert level[0].item() == 0
    assert level[-1].item() <= 1
    assert bool((level.diff() > 0).all())
    assert (level[-1].item() == 1) is schedule.zero_terminal
    torch.testing.assert_close((level[:-1] * math.pi / 2).tan(), schedule.sigma(t[:-1]) / schedule.alpha(t[:-1]))


@each
def test_levels_and_both_are_alpha_and_sigma(schedule: Schedule) -> None:
    t = torch.cat([torch.zeros(1, dtype=F64), inside(20), torch.ones(1, dtype=F64)])
    alpha, sigma = schedule.both(t)
    assert torch.equal(alpha, schedule.alpha(t))
    assert torch.equal(sigma, schedule.sigma(t))
    for level, a, b in zip(schedule.levels(t), alpha.tolist(), sigma.tolist(), strict=True):
        assert (level.alpha, level.sigma) == (a, b)


@each
def test_elementwise_in_any_shape(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 12, dtype=F64)
    functions = (
        schedule.alpha,
        schedule.sigma,
        schedule.alpha_dot,
        schedule.sigma_dot,
        schedule.logsnr,
        schedule.rate,
    )
    for f in (*functions, schedule.level, lambda t: schedule.inverse(schedule.logsnr(t))):
        assert torch.equal(f(t.reshape(3, 4).T), f(t).reshape(3, 4).T)
        torch.testing.assert_close(f(t[5]), f(t)[5], rtol=1e-14, atol=0)
        assert f(t.float()).dtype == torch.float32


@pytest.mark.parametrize(
    "name", [name for name, schedule in CASES.items() if isinstance(schedule, VariancePreserving)]
)
def test_variance_is_preserved(name: str) -> None:
    t, schedule = inside(), CASES[name]
    torch.testing.assert_close(
        schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-14, atol=0
    )


def test_formulas_of_the_smooth_ones() -> None:
    t = inside()
    for schedule, alpha, sigma in (
        (Flow(), 1 - t, t),
        (Cosine(), (math.pi * t / 2).cos(), (math.pi * t / 2).sin()),
        (EDM(3.0), torch.ones_like(t), 3 * t),
        (Polynomial(3), 1 - t**3, t**3),
    ):
        torch.testing.assert_close(schedule.alpha(t), alpha, rtol=1e-9, atol=0)
        torch.testing.assert_close(schedule.sigma(t), sigma, rtol=1e-14, atol=0)


def test_mask_cosine_is_maskgits_cosine_of_the_time_that_is_left() -> None:
    t, schedule = inside(), MaskCosine()
    torch.testing.assert_close(schedule.sigma(t), (math.pi * (1 - t) / 2).cos(), rtol=1e-9, atol=1e-15)
    exact = [1 - math.sin(math.pi * 0.1 / 2), 2 * math.sin(math.pi * 1e-9 / 4) ** 2]
    found = schedule.alpha(torch.tensor([0.1, 1 - 1e-9], dtype=F64))
    torch.testing.assert_close(found, torch.tensor(exact, dtype=F64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", SURVIVALS)
def test_what_shows_and_what_does_not_is_everything(name: str) -> None:
    t, schedule = inside(), CASES[name]
    torch.testing.assert_close(schedule.alpha(t) + schedule.sigma(t), torch.ones_like(t), rtol=1e-15, atol=0)
    assert schedule.zero_terminal


# ------------------------------------------------------------------------------------------------------ tables


def betas_of(name: str) -> list[float]:
    """The papers' rows of beta, in plain Python."""
    if "scaled" in name:
        low, high = math.sqrt(0.00085), math.sqrt(0.012)
        return [(low + (high - low) * i / 999) ** 2 for i in range(1000)]
    if "cosine" in name:
        bar = [math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(1001)]
        return [min(1 - after / before, 0.999) for before, after in pairwise(bar)]
    steps, low, high = (7, 0.01, 0.5) if "7 steps" in name else (1000, 1e-4, 0.02)
    return [low + (high - low) * i / (steps - 1) for i in range(steps)]


def alpha_bars(betas: list[float]) -> list[Decimal]:
    """Π (1 − beta), in 40 digits."""
    product, row = Decimal(1), []
    with localcontext() as context:
        context.prec = 40
        for beta in betas:
            product *= 1 - Decimal(beta)
            row.append(product)
    return row


def knots(schedule: Table) -> Tensor:
    return torch.arange(1, len(schedule) + 1, dtype=F64) / len(schedule)


@pytest.mark.parametrize("start", [1e-5, 1e-3])
@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_a_table_holds_the_cumulative_product_at_its_knots(steps: int, start: float) -> None:
    """The table is given its betas here, so that only its own arithmetic is judged: 12 digits."""
    betas = torch.linspace(start, 0.03, steps, dtype=F64)
    schedule = Table(betas)
    exact = torch.tensor([float(bar) for bar in alpha_bars(betas.tolist())], dtype=F64)
    one_less = torch.tensor([float(1 - bar) for bar in alpha_bars(betas.tolist())], dtype=F64)
    torch.testing.assert_close(schedule.alpha(knots(schedule)) ** 2, exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.sigma(knots(schedule)) ** 2, one_less, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in TABLES if "zero" not in name])
def test_tables_are_the_papers(name: str) -> None:
    """From betas in plain Python; the cosine's, which are differences of neighbours, agree to fewer digits."""
    schedule, exact = TABLES[name], alpha_bars(betas_of(name))
    assert schedule.steps == len(schedule) == len(exact)
    ours = (schedule.alpha(knots(schedule)) ** 2).tolist()
    assert max(abs(a / float(b) - 1) for a, b in zip(ours, exact, strict=True)) < (
        1e-9 if "cosine" in name else 1e-12
    )


@pytest.mark.parametrize("name", [name for name in TABLES if "zero" not in name])
def test_posterior_variance_is_beta_tilde(name: str) -> None:
    """beta-tilde_i = (1 − alpha-bar_{i−1}) / (1 − alpha-bar_i) · beta_i."""
    schedule, betas = TABLES[name], betas_of(name)
    bars = [Decimal(1), *alpha_bars(betas)]
    tilde = [float((1 - bars[i]) / (1 - bars[i + 1])) * betas[i] for i in range(len(betas))]
    t = knots(schedule)
    ours = Gaussian(schedule).posterior_variance(t, torch.cat([torch.zeros(1, dtype=F64), t[:-1]]))
    torch.testing.assert_close(ours, torch.tensor(tilde, dtype=F64), rtol=1e-8 if "cosine" in name else 1e-10, atol=0)


@pytest.mark.parametrize("name", [name for name in TABLES if "zero" in name])
def test_zero_terminal_is_lins_algorithm_1(name: str) -> None:
    roots = [bar.sqrt() for bar in alpha_bars(betas_of(name))]
    first, final = roots[0], roots[-1]
    expected = [float((root - final) * first / (first - final)) for root in roots]
    schedule = TABLES[name]
    torch.testing.assert_close(
        schedule.alpha(knots(schedule)), torch.tensor(expected, dtype=F64), rtol=1e-11, atol=1e-15
    )
    assert schedule.alpha(knots(schedule)[0]).item() == pytest.approx(float(first), rel=1e-13)


@pytest.mark.parametrize("schedule", TABLES.values(), ids=TABLES)
def test_between_knots_the_angle_is_linear(schedule: Table) -> None:
    t = torch.cat([torch.zeros(1, dtype=F64), knots(schedule)])
    level, share = schedule.level(t), 0.3
    between = schedule.level(torch.lerp(t[:-1], t[1:], share))
    torch.testing.assert_close(between, torch.lerp(level[:-1], level[1:], share), rtol=1e-9, atol=1e-12)


def test_cosine_beta_is_the_cosine_with_an_offset_until_it_is_held_back() -> None:
    t = torch.arange(1, 990, dtype=F64) / 1000
    bar = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(CosineBeta().alpha(t) ** 2, bar, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "betas", [[], [0.0, 0.1], [0.1, 1.0], [-0.1], [0.1, math.nan], [[0.1, 0.2]]], ids=lambda row: str(row)
)
def test_rates_that_are_none_are_refused(betas: list[float]) -> None:
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        Table(torch.tensor(betas))


def test_impossible_schedules_are_refused() -> None:
    for sigma_max in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=r"sigma_max is .*must be positive and finite"):
            EDM(sigma_max)
    for power in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match=r"power is .*must be positive and finite"):
            Polynomial(power)
    for make in (LinearBeta, ScaledLinearBeta, CosineBeta):
        for steps in (0, -1):
            with pytest.raises(InputError, match=f"a schedule of {steps} steps is not possible; give 1 or more"):
                make(steps=steps)
    with pytest.raises(InputError, match="at least 2 steps"):
        LinearBeta(1, zero_terminal=True)
