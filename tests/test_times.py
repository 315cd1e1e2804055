"""Times of training and the sampling grids' own shapes. That grids fall from 1 to 0 is kept by laws/test_grids.py."""

import math

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.rng import Streams
from carrara.schedules import EDM, SCHEDULES, Cosine, Flow, LinearBeta, Schedule
from carrara.times import (
    TRAIN_TIMES,
    Discrete,
    Importance,
    LogitNormal,
    LogNormal,
    TrainTimes,
    Uniform,
    grid,
    karras,
    logsnr,
    shifted,
    spread_uniforms,
    trailing,
    uniform,
)

F64 = torch.float64
U = (torch.arange(20000, dtype=F64) + 0.5) / 20000
SEED, BATCH = 3, 48


def learned() -> Importance:
    """Importance times that have seen losses of very unlike sizes."""
    times = Importance(bins=16, memory=0.0)
    t = torch.linspace(0.001, 0.999, 640, dtype=F64)
    times.update(t, 0.05 / t)
    return times


def normal_share(z: Tensor) -> Tensor:
    return (1 + torch.erf(z / math.sqrt(2))) / 2


# ---------------------------------------------------------------------------------------------------- the u


@pytest.mark.parametrize("number", [0, 1, 7, 12345])
def test_stratified_hits_each_cell_of_a_batch_once(number: int) -> None:
    start = number * BATCH
    u = spread_uniforms("stratified", Streams.of_run(SEED, start, BATCH), SEED, start, BATCH)
    assert u.dtype == F64
    assert (u * BATCH).long().sort().values.tolist() == list(range(BATCH))
    torch.testing.assert_close(u.sort().values.diff(), torch.full((BATCH - 1,), 1 / BATCH, dtype=F64))


@pytest.mark.parametrize("spread", ["stratified", "independent"])
def test_uniforms_do_not_depend_on_how_the_batch_is_split(spread: str) -> None:
    start = 5 * BATCH
    whole = spread_uniforms(spread, Streams.of_run(SEED, start, BATCH), SEED, start, BATCH)
    parts = [(start, 1), (start + 1, 15), (start + 16, 32)]
    split = [spread_uniforms(spread, Streams.of_run(SEED, a, count), SEED, a, BATCH) for a, count in parts]
    assert torch.equal(torch.cat(split), whole)


@pytest.mark.parametrize("spread", ["stratified", "independent"])
def test_each_uniform_is_uniform_over_the_batches(spread: str) -> None:
    """Kolmogorov–Smirnov over 800 batches, for the image in one place: D √n < 1.95 with probability 0.999."""
    starts = [batch * BATCH + 7 for batch in range(800)]
    u = torch.cat([spread_uniforms(spread, Streams.of_run(SEED, a, 1), SEED, a, BATCH) for a in starts])
    assert bool((u > 0).all() and (u < 1).all())
    assert distance(u, u) * math.sqrt(len(u)) < 1.95
    assert len(set(u.tolist())) == len(u)


def test_a_stratified_batch_has_less_variance() -> None:
    def mean(spread: str, batch: int) -> float:
        start = batch * BATCH
        return float(spread_uniforms(spread, Streams.of_run(SEED, start, BATCH), SEED, start, BATCH).square().mean())

    deviations = {
        spread: torch.tensor([mean(spread, batch) for batch in range(60)]).std()
        for spread in ("stratified", "independent")
    }
    assert deviations["stratified"] < 0.2 * deviations["independent"]


def test_the_stratified_shift_depends_on_seed_and_batch() -> None:
    streams = Streams(range(BATCH))
    firsts = {
        float(spread_uniforms("stratified", streams, seed, start, BATCH)[0])
        for seed in (1, 2)
        for start in (0, BATCH)
    }
    assert len(firsts) == 4


# ------------------------------------------------------------------------------------- the distributions of t


def distance(draws: Tensor, shares: Tensor) -> float:
    """Kolmogorov's: the largest gap between the draws' own distribution and `shares`, the law's at each of them."""
    rank = torch.arange(1, len(draws) + 1, dtype=F64) / len(draws)
    return float((shares[draws.argsort()] - rank).abs().max())


@pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)
def test_quantiles_invert_their_distributions(schedule: Schedule) -> None:
    t = LogNormal(-0.8, 0.9).quantile(U, schedule)
    inner = (t > 0) & (t < 1)
    level = -schedule.logsnr(t) / 2
    torch.testing.assert_close(normal_share((level + 0.8) / 0.9)[inner], U[inner], rtol=1e-7, atol=1e-9)
    assert inner.double().mean() > 0.9
    t = LogitNormal(0.4, 1.3).quantile(U, schedule)
    torch.testing.assert_close(normal_share((t.logit() - 0.4) / 1.3), U, rtol=1e-9, atol=1e-12)
    assert torch.equal(Uniform().quantile(U, schedule), U)


def test_discrete_times_are_the_knots_equally_often() -> None:
    t = Discrete(50).quantile(U, Flow()) * 50
    assert torch.equal(t.round().long().bincount(minlength=51), torch.tensor([0] + 50 * [len(U) // 50]))
    torch.testing.assert_close(t, t.round(), rtol=1e-12, atol=0)
    edges = torch.tensor([2.0**-53, 1 / 50, math.nextafter(1 / 50, 1), 1 - 2.0**-53], dtype=F64)
    assert (Discrete(50).quantile(edges, Flow()) * 50).round().tolist() == [1, 1, 2, 50]


def test_importance_draws_in_proportion_to_its_density() -> None:
    times = learned()
    t = times.quantile(U, Flow())
    share = (t * 16).long().bincount(minlength=16) / len(U)
    torch.testing.assert_close(share.double(), times.density() / 16, rtol=0, atol=2 / len(U))
    assert times.density().mean().item() == pytest.approx(1)
    assert times.density().max() > 5 * times.density().min()
    assert times.density().min() >= 0.1
    within = (t[t < 1 / 16] * 16).sort().values
    assert distance(within, within) < 1e-3


ALL_TIMES = {name: make() for name, make in TRAIN_TIMES.items()} | {"importance, learned": learned()}


@pytest.mark.parametrize("times", ALL_TIMES.values(), ids=ALL_TIMES)
@pytest.mark.parametrize("schedule", [Flow(), Cosine(), EDM(), LinearBeta()])
def test_draws_rise_with_u_within_their_range(times: TrainTimes, schedule: Schedule) -> None:
    u = torch.cat([torch.tensor([2.0**-53], dtype=F64), U, torch.tensor([1 - 2.0**-53], dtype=F64)])
    t, factor = times.draw(u, schedule)
    assert t.dtype == factor.dtype == F64
    assert bool((t.diff() >= 0).all() and (t >= times.t_min).all() and (t <= 1).all())
    assert bool((factor > 0).all() and factor.isfinite().all())
    assert torch.equal(t, times.quantile(u, schedule).clamp(times.t_min, 1))


@pytest.mark.parametrize("times", [times for name, times in ALL_TIMES.items() if "importance" not in name])
def test_only_importance_weighs_its_draws(times: TrainTimes) -> None:
    assert torch.equal(times.draw(U, Flow())[1], torch.ones_like(U))


@pytest.mark.parametrize("times", [Importance(), learned()], ids=["new", "learned"])
def test_importance_keeps_the_uniform_mean(times: Importance) -> None:
    """∫ factor · f(t(u)) du = ∫ f dt for any f."""
    t, factor = times.draw(U, Flow())
    for f, mean in ((torch.ones_like, 1.0), (torch.square, 1 / 3), (lambda t: (9 * t).sin(), (1 - math.cos(9)) / 9)):
        assert float((factor * f(t)).mean()) == pytest.approx(mean, abs=5e-4)


def test_importance_lowers_the_variance_of_the_loss_it_has_learned() -> None:
    times = learned()
    t, factor = times.draw(U, Flow())
    loss = lambda t: 0.05 / (t + 0.01)  # noqa: E731
    assert (factor * loss(t)).var() < 0.5 * loss(U).var()


def test_importance_learns_the_root_mean_square_of_each_cell() -> None:
    times = Importance(bins=4, floor=0.1, memory=0.75)
    times.update(torch.tensor([0.1, 0.2, 0.6, 1.0], dtype=F64), torch.tensor([3.0, 5.0, 2.0, 4.0]))
    expected = torch.tensor([0.75 + 0.25 * 17, 1, 0.75 + 0.25 * 4, 0.75 + 0.25 * 16], dtype=F64)
    torch.testing.assert_close(times.square, expected)
    root = expected.sqrt()
    torch.testing.assert_close(times.density(), 0.1 + 0.9 * root / root.mean())


def test_what_importance_has_learned_belongs_to_the_checkpoint() -> None:
    fresh = Importance(bins=16)
    fresh.load_state_dict(learned().state_dict())
    assert torch.equal(fresh.density(), learned().density())
    assert not torch.equal(fresh.density(), Importance(bins=16).density())


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (TrainTimes, {"t_min": 0.0}, "t_min is 0.0"),
        (TrainTimes, {"t_min": 1.0}, "t_min is 1.0"),
        (Discrete, {"steps": 0}, "steps is 0"),
        (Importance, {"bins": 0}, "bins ≥ 1"),
        (Importance, {"floor": 0.0}, "0 < floor"),
        (Importance, {"memory": 1.0}, "memory < 1"),
    ],
)
def test_impossible_options_are_refused(make: type, options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(**options)


# ------------------------------------------------------------------------------------------------- the grids


def test_shifted_is_esser_eq_23() -> None:
    """t′ = √(m/n) t / (1 + (√(m/n) − 1) t), and in noise levels a factor: sigma/alpha of the flow is multiplied by it."""
    t, moved = uniform(12, Flow()), shifted(12, Flow(), 2.5)
    torch.testing.assert_close(moved, 2.5 * t / (1 + 1.5 * t), rtol=1e-14, atol=0)
    inner = slice(1, -1)
    ratio = (moved / (1 - moved))[inner] / (t / (1 - t))[inner]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2.5), rtol=1e-12, atol=0)
    assert torch.equal(shifted(12, Flow(), 1.0), t)


def test_karras_is_eq_5() -> None:
    """In EDM's own terms: sigma_i = (80^(1/7) + i/(n−1) (0.002^(1/7) − 80^(1/7)))^7, then 0."""
    n = 18
    expected = [(80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)] + [0.0]
    sigma = EDM(80.0).sigma(karras(n, EDM(80.0)))
    torch.testing.assert_close(sigma, torch.tensor(expected, dtype=F64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)
def test_karras_and_logsnr_are_even_in_their_own_coordinates(schedule: Schedule) -> None:
    """The first time aside, which is moved to t = 1 where the schedule goes beyond ratio_max."""
    level = schedule.logsnr(logsnr(20, schedule))[1:-1]
    torch.testing.assert_close(level.diff(), level.diff().mean().expand(18), rtol=1e-6, atol=0)
    assert level[-1].item() == pytest.approx(-2 * math.log(0.002), rel=1e-9)
    level = schedule.logsnr(karras(20, schedule, rho=5.0, ratio_min=0.01))[1:-1]
    root = (-level / 10).exp()
    torch.testing.assert_close(root.diff(), root.diff().mean().expand(18), rtol=1e-6, atol=0)
    assert level[-1].item() == pytest.approx(-2 * math.log(0.01), rel=1e-9)


def test_trailing_ends_where_lin_says() -> None:
    """Lin et al., 2024, table 2: T = 1000 in 10 steps are the steps 1000, 900, …, 100."""
    assert (trailing(10, LinearBeta()) * 1000).round().tolist() == list(range(1000, -1, -100))
    assert torch.equal(trailing(7, Flow()), uniform(7, Flow()))


def test_an_unknown_grid_is_named_with_its_nearest() -> None:
    with pytest.raises(InputError, match=r"'karas': did you mean 'karras'\? allowed: karras, logistic, logsnr"):
        grid("karas", 5, Flow())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("shifted", {"shift": 0.0}),
        ("shifted", {"shift": -1.0}),
        ("karras", {"rho": 0.0}),
        ("karras", {"ratio_min": 0.0}),
        ("karras", {"ratio_min": 90.0}),
        ("logsnr", {"ratio_min": 90.0}),
        ("logsnr", {"ratio_min": 0.0}),
        ("shifted", {"shift": 1e300}),
    ],
)
def test_options_without_a_grid_are_refused(kind: str, options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        grid(kind, 5, Flow(), **options)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_logistic_is_the_flow_s_uniform_grid(shift: float) -> None:
    """With scale 1 it has the noise levels of flow matching's uniform grid, with mean log(shift) those of the shifted one."""
    for n in (1, 2, 9):
        ours = grid("logistic", n, Flow(), mean=math.log(shift), scale=1.0)
        torch.testing.assert_close(ours, grid("shifted", n, Flow(), shift=shift), rtol=1e-12, atol=1e-12)
        under_cosine = grid("logistic", n, Cosine(), mean=math.log(shift), scale=1.0)
        torch.testing.assert_close(Cosine().logsnr(under_cosine), Flow().logsnr(ours), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"scale": -1.0}, {"mean": math.inf}, {"scale": math.nan}])
def test_impossible_logistic_grids_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="finite mean and a scale above 0"):
        grid("logistic", 5, Flow(), **options)
