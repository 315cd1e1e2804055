"""What every sampler owes to whoever iterates it. How well it samples is kept by the laws."""

import pytest
import torch
from torch import Tensor
from toys import OF_NUMBERS

from carrara.beliefs import Point
from carrara.errors import InputError
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.samplers import SAMPLERS, pairs
from carrara.schedules import SCHEDULES, Flow, Schedule
from carrara.times import grid

F64 = torch.float64
each_sampler = pytest.mark.parametrize("name", OF_NUMBERS)


class Witness:
    """A smooth belief; remembers at which times it was asked, with what, and whether gradients were on."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.process = Gaussian(schedule or Flow())
        self.calls: list[tuple[float, Tensor, object, bool]] = []
        self.gain = torch.tensor(0.9, requires_grad=True)

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        self.calls.append((float(t), x_t, cond, torch.is_grad_enabled()))
        return Point(torch.tanh(self.gain * x_t) * (1 - 0.3 * t).to(x_t))


def start(n: int = 3) -> Tensor:
    return Streams(range(n)).normal((2, 2))


@each_sampler
@pytest.mark.parametrize("n", [1, 2, 7])
def test_steps_are_the_pairs_of_the_grid(name: str, n: int) -> None:
    times = grid("uniform", n, Flow())
    steps = list(OF_NUMBERS[name].walk(Witness(), start(), times, rng=Streams(range(3))))
    assert [step.index for step in steps] == list(range(n))
    assert [float(step.t) for step in steps] == times[:-1].tolist()
    assert [float(step.s) for step in steps] == times[1:].tolist()
    assert all(step.x.shape == (3, 2, 2) and step.x.dtype == torch.float32 for step in steps)


@each_sampler
def test_a_step_s_belief_is_the_one_held_at_t(name: str) -> None:
    denoiser, x = Witness(), start()
    if OF_NUMBERS[name].returns:
        pytest.skip("it holds beliefs at noisier times than t")
    for step in OF_NUMBERS[name].walk(denoiser, x, grid("uniform", 6, Flow()), rng=Streams(range(3))):
        assert torch.equal(step.belief.preview, denoiser(x, step.t).x0)
        x = step.x


@each_sampler
@pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)
def test_evaluations_are_as_many_as_declared(name: str, schedule: Schedule) -> None:
    """A step that ends at t = 0 may do with fewer. No time at or below 0 is ever asked for, nor one above the step's.

    Some samplers go back up in noise, and ask there.
    """
    denoiser, times, sampler = Witness(schedule), grid("karras", 6, schedule), OF_NUMBERS[name]
    for step in sampler.walk(denoiser, start(), times, rng=Streams(range(3))):
        asked = [t for t, *_ in denoiser.calls]
        last = step.s == 0
        if sampler.evaluations is not None:
            assert len(asked) == sampler.evaluations or (last and 1 <= len(asked) <= sampler.evaluations)
        assert asked[0] == step.t or (sampler.returns and step.t < asked[0] <= 1)
        assert all(max(float(step.s), 1e-9) <= t <= (1 if sampler.returns else step.t) for t in asked)
        denoiser.calls.clear()


@each_sampler
def test_the_condition_is_handed_on_and_no_gradients_are_kept(name: str) -> None:
    denoiser, cond = Witness(), {"label": start().flatten(1).sum(1)}
    steps = list(OF_NUMBERS[name].walk(denoiser, start(), grid("uniform", 4, Flow()), cond, rng=Streams(range(3))))
    first, whole = denoiser.calls[0], all(len(x) == 3 for _, x, *_ in denoiser.calls)
    assert first[2] is cond
    for _, x, given, gradients in denoiser.calls:
        assert not gradients
        assert given is cond or (not whole and given["label"] in cond["label"] and len(x) == 1)
    assert not steps[-1].x.requires_grad
    assert torch.is_grad_enabled()


@each_sampler
def test_gradients_are_on_between_the_steps(name: str) -> None:
    """A sampler that is only half walked must not leave its caller without gradients."""
    walk = OF_NUMBERS[name].walk(Witness(), start(), grid("uniform", 4, Flow()), rng=Streams(range(3)))
    next(walk)
    assert torch.is_grad_enabled()
    next(walk)
    assert torch.is_grad_enabled()


@each_sampler
def test_noise_is_added_where_declared_and_only_there(name: str) -> None:
    times = grid("uniform", 5, Flow())

    def end(seeds: range) -> Tensor:
        return list(OF_NUMBERS[name].walk(Witness(), start(), times, rng=Streams(seeds)))[-2].x

    assert torch.equal(end(range(3)), end(range(3)))
    assert torch.equal(end(range(3)), end(range(50, 53))) is not OF_NUMBERS[name].stochastic
    if OF_NUMBERS[name].stochastic:
        with pytest.raises(InputError, match="needs the samples' random streams"):
            list(OF_NUMBERS[name].walk(Witness(), start(), times, rng=None))
    else:
        assert torch.equal(list(OF_NUMBERS[name].walk(Witness(), start(), times, rng=None))[-2].x, end(range(3)))


@each_sampler
def test_a_constant_belief_is_reached_exactly(name: str) -> None:
    """Whatever the grid: who is always told the same x0 ends there, and on the way stays at alpha x0 + sigma eps."""

    class Sure(Witness):
        def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
            return Point(torch.full_like(x_t, 0.25))

    for schedule in (make() for make in SCHEDULES.values()):
        denoiser = Sure(schedule)
        x = denoiser.process.prior((2, 2), Streams(range(3))).double()
        times = grid("karras", 5, schedule)
        eps = denoiser.process.eps(x, torch.full_like(x, 0.25), times[0])
        for step in OF_NUMBERS[name].walk(denoiser, x, times, rng=Streams(range(3))):
            if not OF_NUMBERS[name].stochastic:
                on_line = schedule.alpha(step.s) * 0.25 + schedule.sigma(step.s) * eps
                torch.testing.assert_close(step.x, on_line, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(step.x, torch.full_like(x, 0.25), rtol=1e-9, atol=1e-9)


def test_pairs_are_neighbours() -> None:
    times = torch.tensor([1.0, 0.5, 0.2, 0.0], dtype=F64)
    assert [(i, float(t), float(s)) for i, t, s in pairs(times)] == [(0, 1.0, 0.5), (1, 0.5, 0.2), (2, 0.2, 0.0)]


def test_each_sampler_declares_itself() -> None:
    exact = {"first_hitting", "left_to_right", "planned"}
    for name, sampler in SAMPLERS.items():
        assert sampler.order >= 1 or (sampler.order == 0 and name in exact | {"consistency", "confidence"})
        assert sampler.made_of
        assert sampler.evaluations is None or sampler.evaluations >= 1
        assert sampler.walk.__doc__


@pytest.mark.parametrize("schedule", [make() for make in SCHEDULES.values()], ids=SCHEDULES)
@pytest.mark.parametrize(
    ("name", "options", "plain"),
    [
        ("dpmpp_2m_sde", {"eta": 0.0}, ("dpmpp_2m", {})),
        ("langevin", {"strength": 0.0}, ("ancestral", {})),
        ("langevin", {"strength": 0.0, "eta": 0.0}, ("ancestral", {"eta": 0.0})),
    ],
)
def test_without_its_noise_a_sampler_is_the_plainer_one(
    name: str, options: dict[str, float], plain: tuple[str, dict[str, float]], schedule: Schedule
) -> None:
    times = grid("logsnr", 5, schedule)

    def end(sampler: str, **given: float) -> Tensor:
        rng = Streams(range(3))
        return list(OF_NUMBERS[sampler].walk(Witness(schedule), start(), times, rng=rng, **given))[-1].x

    assert torch.allclose(end(name, **options), end(plain[0], **plain[1]), atol=1e-5)
