"""Tuned grids: the family never leaves the grids there are, held-out points never lose, and a known optimum is found."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from toys import F64, OF_NUMBERS, SCHEDULE_CASES, SMOOTH, OneGaussian, judge, last, mixture

from carrara import tuning
from carrara.analytic import GaussianMixture, MixtureDenoiser
from carrara.errors import InputError
from carrara.processes import Gaussian
from carrara.samplers import adams, ddim, dpmpp_2m, heun, unipc
from carrara.schedules import Schedule
from carrara.times import falls
from carrara.tuning import STARTS, Walk, Warp, damped, learned, rms, shares, tune, tune_among, warped

all_schedules = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


def starts(schedule: Schedule, n: int, seed: int = 0) -> torch.Tensor:
    z = torch.randn((n, 2), generator=torch.Generator().manual_seed(seed), dtype=F64)
    one = torch.ones((), dtype=F64)
    return torch.hypot(schedule.alpha(one), schedule.sigma(one)) * z


@all_schedules
def test_every_warp_falls_strictly_from_one_to_zero(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(1)
    for n in range(1, 21):
        for make in STARTS.values():
            base = shares(make(n, schedule), schedule)
            for size in (0.0, 1.0, 5.0, 100.0):
                c = size * torch.randn(n - 1, generator=generator, dtype=F64)
                times = warped(base, c, schedule)
                assert times.shape == (n + 1,) and times.dtype == F64 and falls(times)


@all_schedules
@pytest.mark.parametrize("start", STARTS)
def test_no_warp_is_the_grid_itself(schedule: Schedule, start: str) -> None:
    times = STARTS[start](7, schedule)
    same = warped(shares(times, schedule), torch.zeros(6, dtype=F64), schedule)
    torch.testing.assert_close(same, times, rtol=1e-9, atol=1e-12)
    bent = warped(shares(times, schedule), torch.full((1,), 0.1, dtype=F64), schedule)
    assert float((bent - times).abs().max()) > 1e-3


@pytest.mark.parametrize("variance", [0.05, 0.3])
@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
def test_the_known_optimum_is_found(schedule: Schedule, variance: float) -> None:
    """N(0, v): with phi = atan(sigma / (alpha √v)) a step of DDIM multiplies x / √(alpha² + sigma² / v) by cos(phi_t − phi_s).

    The exact path keeps it, and Π cos is largest, by the concavity of log cos, where all steps of phi are equal.
    """
    n = 4
    tuned = tune(OneGaussian(schedule, variance), starts(schedule, 16), n, ddim)
    phi = torch.atan2(schedule.sigma(tuned.times), math.sqrt(variance) * schedule.alpha(tuned.times))
    kept, best = float((-phi.diff()).cos().prod()), math.cos(float(phi[0]) / n) ** n
    assert 1 - kept < 1.01 * (1 - best)
    assert float((-phi.diff() * n / phi[0] - 1).abs().max()) < 0.15
    assert tuned.untuned > 1.1 * tuned.error


@pytest.mark.parametrize("walk", [adams, unipc, dpmpp_2m])
@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
def test_held_out_points_never_lose_and_a_new_one_gains(schedule: Schedule, walk: Walk) -> None:
    """64 points tune; the typical one of 400 others is nearer to its end than on the best of the untuned grids for them."""
    tuned = tune(judge(schedule), starts(schedule, 64), 8, walk, evaluations=64 * 8 * 120)
    assert tuned.error <= tuned.untuned and falls(tuned.times) and len(tuned.times) == 9
    error = new_errors(judge(schedule), walk)
    assert error(tuned.times).median() < 0.9 * min(error(make(8, schedule)).median() for make in STARTS.values())


@pytest.mark.parametrize("walk", [adams, unipc, heun])
@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
def test_the_mean_square_of_new_points_gains_where_modes_overlap(schedule: Schedule, walk: Walk) -> None:
    """Where they do not, a point or two between them decides it, and whether these end in one or in the other is luck."""
    wide = MixtureDenoiser(
        GaussianMixture(mixture().means, 6 * mixture().variances, mixture().weights), Gaussian(schedule)
    )
    tuned = tune(wide, starts(schedule, 64), 8, walk, evaluations=64 * 8 * 150)
    error = new_errors(wide, walk)
    assert rms(error(tuned.times)) < 0.9 * min(rms(error(make(8, schedule))) for make in STARTS.values())


def new_errors(denoiser: MixtureDenoiser, walk: Walk) -> Callable[[torch.Tensor], torch.Tensor]:
    """times -> the error of each of 400 points that no grid was tuned on, (400,)."""
    schedule = denoiser.process.schedule
    new = starts(schedule, 400, seed=5)
    exact = last(adams(denoiser, new, STARTS["logsnr"](200, schedule), order=5))
    return lambda times: (last(walk(denoiser, new, times)) - exact).square().mean(1).sqrt()


@pytest.mark.parametrize("n", [1, 2, 3, 20])
@all_schedules
def test_any_number_of_steps_under_any_schedule(schedule: Schedule, n: int) -> None:
    tuned = tune(judge(schedule), starts(schedule, 4), n, ddim, evaluations=4 * (128 + n * 12))
    assert falls(tuned.times) and len(tuned.times) == n + 1
    assert tuned.error <= tuned.untuned


def test_the_error_is_that_of_the_points_held_out() -> None:
    schedule = SMOOTH["edm"]
    x = starts(schedule, 16)
    tuned = tune(judge(schedule), x, 6, adams, held=5, evaluations=16 * (128 + 6 * 40))
    exact = last(adams(judge(schedule), x, STARTS["logsnr"](400, schedule), order=5))
    for times, error in ((tuned.times, tuned.error), (STARTS[tuned.start](6, schedule), tuned.untuned)):
        held = last(adams(judge(schedule), x, times))[-5:] - exact[-5:]
        assert rms(held) == pytest.approx(error, rel=1e-2)


def test_the_same_arguments_give_the_same_grid() -> None:
    schedule = SMOOTH["flow"]
    one, other = (tune(judge(schedule), starts(schedule, 8), 5, adams, evaluations=4000) for _ in range(2))
    assert torch.equal(one.times, other.times) and one.error == other.error
    assert not torch.equal(one.times, tune(judge(schedule), starts(schedule, 8, 1), 5, adams, evaluations=4000).times)


def test_the_budget_holds_and_progress_ends_at_its_total() -> None:
    schedule, told = SMOOTH["flow"], []
    counted = judge(schedule)
    asked = 0

    class Counted:
        process = counted.process

        def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: object = None) -> object:
            nonlocal asked
            asked += len(x)
            return counted(x, t)

    found = tune(Counted(), starts(schedule, 8), 5, heun, evaluations=3000, progress=lambda *at: told.append(at))
    assert found.evaluations == asked <= 3000
    assert asked > 3000 - 8 * 9, "another walk would have gone over it"
    assert told[-1] == (asked, asked) and [done for done, _ in told] == sorted(done for done, _ in told)
    least = tune(Counted(), starts(schedule, 8), 5, heun, evaluations=1)
    assert least.walks == len(STARTS) and least.error == least.untuned
    long = tune(Counted(), starts(schedule, 2), 40, ddim, evaluations=1)
    assert long.evaluations == 2 * (160 + len(STARTS) * 40), "the exact end is that of at least 4 times as many steps"


def test_among_several_the_nearest_is_chosen() -> None:
    schedule = SMOOTH["flow"]
    walks = {"ddim": ddim, "third": partial(adams, order=3), "second": dpmpp_2m}
    name, best = tune_among(judge(schedule), starts(schedule, 32), 8, walks, evaluations=32 * 8 * 60)
    each = {
        name: tune(judge(schedule), starts(schedule, 32), 8, walk, evaluations=32 * 8 * 60)
        for name, walk in walks.items()
    }
    assert name != "ddim" and best.error == min(tuned.error for tuned in each.values()) == each[name].error
    with pytest.raises(InputError, match="no samplers were given"):
        tune_among(judge(schedule), starts(schedule, 4), 2, {})


def test_what_cannot_be_tuned_is_refused() -> None:
    schedule = SMOOTH["flow"]
    x = starts(schedule, 4)
    for sampler in OF_NUMBERS.values():
        if sampler.stochastic:
            with pytest.raises(InputError, match="draws noise on its way"):
                tune(judge(schedule), x, 3, sampler.walk)
    for held, points in ((0, 4), (4, 4), (None, 1)):
        with pytest.raises(InputError, match="there must be some of both"):
            tune(judge(schedule), x[:points], 3, ddim, held=held)
    with pytest.raises(InputError, match="0 sampling steps"):
        tune(judge(schedule), x, 0, ddim)
    with pytest.raises(InputError, match="only 20 discrete steps"):
        tune(judge(SCHEDULE_CASES["linear_beta, 20 steps"]), x, 21, ddim)


def test_each_point_is_walked_with_its_own_condition() -> None:
    """Where the condition says which of two Gaussians is meant, the grid is that of the one it says."""
    schedule, x = SMOOTH["flow"], starts(SMOOTH["flow"], 8)

    class Told(OneGaussian):
        def __call__(self, x_t: torch.Tensor, t: torch.Tensor, cond: object = None) -> object:
            return OneGaussian(schedule, float(cond["variance"][0]))(x_t, t)  # type: ignore[index]

    def found(variance: float) -> torch.Tensor:
        cond = {"variance": torch.full((8,), variance)}
        return tune(Told(schedule, 1.0), x, 3, ddim, cond).times

    assert torch.equal(found(0.25), tune(OneGaussian(schedule, 0.25), x, 3, ddim).times)
    assert not torch.equal(found(0.25), found(0.5))


def test_the_learned_curvature_obeys_its_secant_and_finds_a_quadratics() -> None:
    """Residuals r = a + B c + ½ c·Q c in two parameters: two steps tell all of Σ r_i Q_i where r hardly changes."""
    generator = torch.Generator().manual_seed(0)
    curvature, m = torch.zeros(2, 2, dtype=F64), 40
    a, b = torch.randn(m, generator=generator, dtype=F64), torch.randn((m, 2), generator=generator, dtype=F64)
    q = torch.randn((m, 2, 2), generator=generator, dtype=F64)
    q = q + q.mT
    c = torch.zeros(2, dtype=F64)
    for step in 1e-6 * torch.tensor([[1.0, 0.5], [-0.3, 1.0]], dtype=F64).repeat(4, 1):
        was, before = a + b @ c + c @ q @ c / 2, b + q @ c
        c = c + step
        now, after = a + b @ c + c @ q @ c / 2, b + q @ c
        curvature = learned(curvature, step, before, after, was, now)
        torch.testing.assert_close(curvature @ step, after.T @ now - before.T @ now, rtol=1e-6, atol=0)
        torch.testing.assert_close(curvature, curvature.T)
    torch.testing.assert_close(curvature, torch.einsum("m,mij->ij", a, q), rtol=0.02, atol=0.02 * float(a.norm()))


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
def test_a_step_goes_down_from_a_saddle_too_and_shortens_with_damping(damping: float) -> None:
    hessian = torch.tensor([[2.0, 1.5], [1.5, -1.0]], dtype=F64)
    gradient, scale = torch.tensor([0.3, -0.2], dtype=F64), torch.tensor([2.0, 1.0], dtype=F64)
    step = damped(hessian, gradient, scale, damping)
    assert float(step @ gradient) < 0
    assert float((damped(hessian, gradient, scale, 2 * damping) * scale.sqrt()).norm()) < float(
        (step * scale.sqrt()).norm()
    )
    bowl = torch.diag(scale)
    torch.testing.assert_close(damped(bowl, gradient, scale, damping), -gradient / scale / (1 + damping))


def test_freedom_after_the_bend_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 16 steps five cosines leave much to gain; what they find is where the free search begins."""
    schedule = SMOOTH["edm"]
    free = tune(judge(schedule), starts(schedule, 128), 16, unipc, evaluations=128 * 16 * 250)
    monkeypatch.setattr(
        tuning, "Warp", lambda judge, times, degree, schedule: Warp(judge, times, min(degree, 5), schedule)
    )
    bent = tune(judge(schedule), starts(schedule, 128), 16, unipc, evaluations=128 * 16 * 250)
    assert free.error < 0.8 * bent.error < 0.5 * bent.untuned
