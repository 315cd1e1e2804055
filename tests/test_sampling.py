"""The settings of sampling are checked before anything is computed."""

from typing import Any

import pytest
import torch
from toys import OF_NUMBERS

from carrara.conditions.label import LabelCondition, NoCondition
from carrara.editing import Edit
from carrara.errors import InputError
from carrara.guidance import Guided
from carrara.processes import Gaussian
from carrara.sampling import Sampling, moved, part
from carrara.schedules import Flow, LinearBeta


class Counting:
    """A denoiser that counts its evaluations."""

    def __init__(self, process: Any) -> None:
        self.process, self.evaluations = process, 0

    def __call__(self, x_t: Any, t: Any, cond: Any = None) -> Any:
        from carrara.beliefs import Point

        self.evaluations += 1
        return Point(0 * x_t)


@pytest.mark.parametrize("sampler", OF_NUMBERS)
@pytest.mark.parametrize(("steps", "strength"), [(1, None), (7, None), (7, 1.0), (7, 0.4), (7, 1e-3)])
def test_evaluations_are_counted_right(sampler: str, steps: int, strength: float | None) -> None:
    """With a start that is changed by less than all, fewer steps are walked, and that many only are paid for."""
    sampling, denoiser = Sampling(sampler, steps), Counting(Gaussian(Flow()))
    edit = None if strength is None else Edit(torch.zeros(3, 2), strength=strength)
    walked = list(sampling.walk(denoiser, NoCondition(), (2,), None, [1, 2, 3], edit))
    assert len(walked) == {None: steps, 1.0: 7, 0.4: 3, 1e-3: 1}[strength] and walked[-1].x.shape == (3, 2)
    counted = sampling.evaluations() if strength is None else sampling.evaluations(strength)
    assert counted == (None if OF_NUMBERS[sampler].evaluations is None else denoiser.evaluations)
    assert denoiser.evaluations >= len(walked)


def test_a_guided_evaluation_is_two_of_the_network() -> None:
    assert Sampling("heun", 4).passes() == 7 and Sampling("heun", 4, guidance_scale=2.0).passes() == 14
    assert Sampling("heun", 4, guidance_scale=0.0).passes(0.5) == 6
    assert Sampling("adaptive", 4, guidance_scale=2.0).passes() is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sampler": "huen"}, r"there is no sampler 'huen': did you mean 'heun'\?"),
        ({"steps": 0}, "0 sampling steps were asked for; at least 1"),
        ({"steps": -3}, "-3 sampling steps were asked for"),
        ({"options": {"eta": 0.5}}, "the sampler 'heun' has no option 'eta': it takes none"),
        ({"sampler": "ancestral", "options": {"etta": 0.5}}, "no option 'etta': did you mean 'eta'"),
        ({"options": {"cond": None}}, "no option 'cond'"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Sampling().changed(**changes)


def test_a_grid_without_options_may_be_its_name() -> None:
    assert Sampling(times="karras") == Sampling(times={"kind": "karras"})  # type: ignore[arg-type]
    assert (
        Sampling().changed(times="karras").grid(Flow()).tolist()
        == Sampling(times={"kind": "karras"}).grid(Flow()).tolist()
    )


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ({"kind": "karas"}, r"no grid of times called 'karas': did you mean 'karras'\?"),
        ({"kind": "karras", "ratio_min": 100.0}, "ratio_min"),
        ({"kind": "karras", "roh": 5.0}, r"has no option 'roh': did you mean 'rho'\?"),
        ({"kind": "uniform", "rho": 5.0}, "has no option 'rho'"),
    ],
)
def test_impossible_times_are_refused(times: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Sampling(times=times).grid(Flow())


def test_more_steps_than_the_schedule_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"1001 sampling steps were asked for, but the schedule .* has only 1000"):
        Sampling(steps=1001).grid(LinearBeta())
    assert len(Sampling(steps=1000).grid(LinearBeta())) == 1001


def test_what_is_none_is_left_as_it_is() -> None:
    given = Sampling("ddim", 5, guidance_scale=2.0)
    assert given.changed(steps=None, sampler=None) == given
    assert given.changed(steps=6) == Sampling("ddim", 6, guidance_scale=2.0)


def test_another_sampler_does_not_take_over_the_options_of_the_one_before() -> None:
    given = Sampling("ancestral", 5, options={"eta": 0.5})
    assert given.changed(sampler="heun") == Sampling("heun", 5)
    assert given.changed(sampler="ancestral", steps=6) == Sampling("ancestral", 6, options={"eta": 0.5})
    assert given.changed(sampler="ddim", options={}) == Sampling("ddim", 5)
    with pytest.raises(InputError, match="'heun' has no option 'eta'"):
        given.changed(sampler="heun", options={"eta": 0.5})


def test_guidance_is_only_where_it_is_asked_for() -> None:
    denoiser, condition = Counting(Gaussian(Flow())), LabelCondition(("a", "b"))
    assert Sampling().guide(denoiser, condition.null(2)) is denoiser
    guided = Sampling(guidance_scale=2.0, guidance_interval=(0.2, 0.8), guidance_rescale=0.5).guide(
        denoiser, condition.null(2)
    )
    assert isinstance(guided, Guided)
    assert (guided.scale, guided.interval, guided.rescale) == (2.0, (0.2, 0.8), 0.5)
    with pytest.raises(InputError, match="guidance_scale 2 needs a conditional model; this one is unconditional"):
        Sampling(guidance_scale=2.0).guide(denoiser, None)


def test_conditions_are_cut_and_moved_by_rows() -> None:
    cond = {"label": torch.arange(5), "text": torch.randn(5, 2)}
    cut = part(cond, slice(1, 3))
    assert cut is not None and torch.equal(cut["text"], cond["text"][1:3]) and cut["label"].tolist() == [1, 2]
    assert part(None, slice(0, 1)) is None and moved(None, torch.device("cpu")) is None
    there = moved(cond, torch.device("meta"))
    assert there is not None and there["label"].device.type == "meta"
