"""A belief in bounds, a start and a mask hold for every sampler, under every schedule."""

import pytest
import torch
from torch import Tensor
from toys import OF_NUMBERS, SCHEDULE_CASES, SMOOTH, Elementwise

from carrara.beliefs import Point
from carrara.codecs.pixels import Pixels
from carrara.conditions.label import NoCondition
from carrara.denoisers import Denoiser
from carrara.editing import Edit, places, walked
from carrara.guidance import Guided
from carrara.processes import Gaussian
from carrara.rng import Streams
from carrara.sampling import Sampling
from carrara.schedules import Flow, Schedule

SHAPE, SEEDS = (1, 4, 4), [3, 1, 4]
each_sampler = pytest.mark.parametrize("name", OF_NUMBERS)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


def media(count: int = 3, seed: int = 5) -> Tensor:
    """Pictures with every kind of grey, black and white among them."""
    made = torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    made[..., 0, 0], made[..., 1, 1] = 0, 255
    return made


def mask() -> Tensor:
    """The right half is made, and one place of the left."""
    made = torch.zeros(4, 4, dtype=torch.bool)
    made[:, 2:] = made[3, 0] = True
    return made


def edit(strength: float = 1.0, made: Tensor | None = None, start: Tensor | None = None) -> Edit:
    start = media() if start is None else start
    return Edit(Pixels().encode(start), None if made is None else places(made, SHAPE[1:], len(start)), strength)


def end(denoiser: Denoiser, sampling: Sampling, change: Edit | None, seeds: list[int] = SEEDS) -> Tensor:
    return list(sampling.walk(denoiser, NoCondition(), SHAPE, None, seeds, change))[-1].x


class Belief:
    """A restless belief between −`gain` and `gain`."""

    def __init__(self, gain: float, schedule: Schedule | None = None) -> None:
        self.gain, self.process = gain, Gaussian(schedule or Flow())

    def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
        return Point(self.gain * torch.sin(5 * x_t + t.to(x_t)))


@each_sampler
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_every_belief_of_every_sampler_is_bounded(name: str, kind: str) -> None:
    """With guidance too, which is what carries beliefs out of bounds."""
    sampling = Sampling(name, 4, threshold={"kind": kind, "bound": 0.8})
    strong = Guided(Belief(3.0), 3.0, weak=Belief(1.0))
    for step in sampling.walk(strong, NoCondition(), SHAPE, None, SEEDS):
        assert step.belief.preview.abs().max() <= torch.tensor(0.8)
    assert float(step.x.abs().max()) <= 0.8 + 1e-5


@each_schedule
@pytest.mark.parametrize("strength", [0.2, 0.6])
def test_a_walk_begins_with_the_start_and_the_noise_of_its_time(schedule: Schedule, strength: float) -> None:
    sampling, process = Sampling(steps=5), Gaussian(schedule)
    change = edit(strength)
    t = sampling.grid(schedule)[5 - walked(5, strength)]
    eps = Streams(SEEDS).normal(SHAPE)
    expected = process.mix(change.x0, eps, t)
    for made in (None, mask()):
        x = sampling.begin(process, SHAPE, Streams(SEEDS), edit(strength, made))
        assert torch.equal(x, expected)
    first = next(sampling.walk(Elementwise(schedule), NoCondition(), SHAPE, None, SEEDS, change))
    assert first.t == t and first.index == 0
    torch.testing.assert_close(first.belief.x0, Elementwise(schedule)(expected, t).x0)


@each_schedule
@pytest.mark.parametrize("name", ["ancestral", "heun"])
def test_at_full_strength_a_start_leaves_only_what_its_noise_does(schedule: Schedule, name: str) -> None:
    """Where alpha(1) = 0 that is nothing, bit for bit, and the noise of the steps is the same too."""
    sampling, denoiser = Sampling(name, 5), Elementwise(schedule)
    plain, one = end(denoiser, sampling, None), end(denoiser, sampling, edit(1.0))
    other = sampling.begin(denoiser.process, SHAPE, Streams(SEEDS), edit(1.0, start=media(seed=9)))
    begun = sampling.begin(denoiser.process, SHAPE, Streams(SEEDS), edit(1.0))
    assert torch.equal(one, plain) or not schedule.zero_terminal
    assert torch.equal(begun, other) is schedule.zero_terminal
    assert torch.equal(end(denoiser, sampling, edit(1.0, torch.ones(4, 4, dtype=torch.bool))), plain)


@each_schedule
def test_a_start_of_one_step_is_nearly_the_start(schedule: Schedule) -> None:
    """The one step ends at what is believed of the start with little noise; the exact belief of ±1 is near ±1."""
    start = torch.where(media() > 127, 255, 0).to(torch.uint8)
    sampling = Sampling("euler", 20, times={"kind": "karras", "ratio_min": 0.05, "ratio_max": 5})
    denoiser, change = Elementwise(schedule), edit(1e-6, start=start)
    t = change.path(sampling.grid(schedule))
    assert len(t) == 2
    x_t = sampling.begin(denoiser.process, SHAPE, Streams(SEEDS), change)
    found, fresh = end(denoiser, sampling, change), end(denoiser, sampling, None)
    torch.testing.assert_close(found, denoiser(x_t, t[0]).x0, rtol=1e-4, atol=1e-4)
    assert (found - change.x0).abs().max() < 0.1 < (fresh - change.x0).abs().max()


@each_sampler
@pytest.mark.parametrize("made", [None, mask()], ids=["start", "mask"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_what_is_changed_does_not_depend_on_the_batch(name: str, made: Tensor | None, strength: float) -> None:
    """Bit for bit, on the denoiser in which no number meets another."""
    sampling, denoiser = Sampling(name, 4, threshold={"kind": "dynamic"}), Elementwise(Flow())
    change = edit(strength, made)
    whole = end(denoiser, sampling, change)
    assert len({x.numpy().tobytes() for x in whole}) == 3
    for i in range(3):
        alone = end(denoiser, sampling, change.rows(slice(i, i + 1)), SEEDS[i : i + 1])
        assert torch.equal(alone[0], whole[i])
    assert torch.equal(end(denoiser, sampling, change, [9, 9, 9]), whole) is False


@each_sampler
@each_schedule
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_known_places_come_back_exactly(name: str, schedule: Schedule, strength: float) -> None:
    """With guidance and a threshold that would both change them; what is made is something else."""
    denoiser = Guided(Elementwise(schedule), 2.0, weak=Belief(0.3, schedule))
    sampling = Sampling(name, 4, threshold={"kind": "static", "bound": 0.5})
    x0 = end(denoiser, sampling, edit(strength, mask()))
    found, made = Pixels().decode(x0), mask().expand_as(x0)
    assert x0[made].abs().max() <= 0.5 + 1e-4 < x0[~made].abs().max()
    assert torch.equal(found[~made], media()[~made])
    assert float((found[made] != media()[made]).float().mean()) > 0.5


@pytest.mark.parametrize("name", [name for name, sampler in OF_NUMBERS.items() if not sampler.stochastic])
@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
def test_known_places_keep_the_noise_of_their_time(name: str, schedule: Schedule) -> None:
    """The network sees them as it was trained to, alpha x0 + sigma eps, and eps is the sample's own all the way."""
    change, process, eps = edit(1.0, mask()), Gaussian(schedule), Streams(SEEDS).normal(SHAPE)
    known = ~mask().expand(3, *SHAPE)
    for step in Sampling(name, 6).walk(Elementwise(schedule), NoCondition(), SHAPE, None, SEEDS, change):
        expected = process.mix(change.x0, eps, step.s)
        # The adaptive solver promises 1e-4 of EDM's 80.
        torch.testing.assert_close(step.x[known], expected[known], rtol=1e-4, atol=2e-4)


@each_schedule
@pytest.mark.parametrize("name", ["ancestral", "dpmpp_2m"])
def test_what_lies_under_the_mask_is_never_seen_at_full_strength(schedule: Schedule, name: str) -> None:
    hidden = torch.where(mask(), 255 - media(), media())
    denoiser, sampling = Elementwise(schedule), Sampling(name, 5)
    assert torch.equal(*(end(denoiser, sampling, edit(1.0, mask(), start)) for start in (media(), hidden)))
    weaker = [end(denoiser, sampling, edit(0.4, mask(), start)) for start in (media(), hidden)]
    assert not torch.equal(*weaker)
