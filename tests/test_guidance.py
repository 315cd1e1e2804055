"""Guidance: one definition of the scale, one batched evaluation."""

import pytest
import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.errors import InputError
from carrara.guidance import Guided, against, guided, parted
from carrara.processes import Gaussian
from carrara.schedules import Cosine

F64 = torch.float64
T = torch.tensor(0.5, dtype=F64)


class Labelled:
    """Its belief depends on x_t, t and the label; it counts its evaluations and the samples in them."""

    def __init__(self, gain: float = 1.0) -> None:
        self.process, self.gain = Gaussian(Cosine()), gain
        self.evaluations: list[int] = []

    def __call__(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor] | None = None) -> Point:
        self.evaluations.append(len(x_t))
        label = cond["label"] if cond else torch.zeros(len(x_t))
        return Point(self.gain * torch.sin(x_t * (1 + label)[:, None, None]) + float(t))


def x() -> Tensor:
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(2))


def label() -> dict[str, Tensor]:
    return {"label": torch.tensor([1.0, 2.0, 0.5])}


def null() -> dict[str, Tensor]:
    return {"label": torch.full((3,), -0.4)}


def test_scale_one_is_the_condition_and_zero_the_null() -> None:
    denoiser = Labelled()
    assert torch.equal(guided(denoiser, 1.0, null())(x(), T, label()).x0, denoiser(x(), T, label()).x0)
    assert torch.equal(guided(denoiser, 0.0, null())(x(), T, label()).x0, denoiser(x(), T, null()).x0)
    assert not torch.equal(denoiser(x(), T, label()).x0, denoiser(x(), T, null()).x0)


@pytest.mark.parametrize("scale", [-1.0, 0.5, 1.0, 2.0, 7.5])
def test_belief_is_linear_in_the_scale(scale: float) -> None:
    """Ho & Salimans, 2022, eq. 6: (1 + w) · conditional − w · unconditional with w = scale − 1."""
    denoiser, w = Labelled(), scale - 1
    expected = (1 + w) * denoiser(x(), T, label()).x0 - w * denoiser(x(), T, null()).x0
    torch.testing.assert_close(guided(denoiser, scale, null())(x(), T, label()).x0, expected, rtol=1e-5, atol=1e-5)


def test_every_channel_is_guided() -> None:
    denoiser = Labelled()
    moved = guided(denoiser, 3.0, null())(x(), T, label()).x0 - denoiser(x(), T, label()).x0
    assert bool((moved.abs() > 1e-6).all())


def test_both_beliefs_come_from_one_batched_evaluation() -> None:
    denoiser = Labelled()
    guided(denoiser, 4.0, null())(x(), T, label())
    assert denoiser.evaluations == [6]


def test_scale_one_costs_one_evaluation_and_needs_no_condition() -> None:
    denoiser = Labelled()
    guided(denoiser, 1.0, null())(x(), T, None)
    assert denoiser.evaluations == [3]


def test_guidance_acts_within_its_interval() -> None:
    denoiser = Labelled()
    within = guided(denoiser, 4.0, null(), interval=(0.25, 0.75))
    always = guided(denoiser, 4.0, null())
    for t, acts in ((1.0, False), (0.76, False), (0.75, True), (0.5, True), (0.25, True), (0.24, False)):
        time = torch.tensor(t, dtype=F64)
        denoiser.evaluations.clear()
        belief = within(x(), time, label()).x0
        assert denoiser.evaluations == ([6] if acts else [3])
        assert torch.equal(belief, (always if acts else denoiser)(x(), time, label()).x0)


def other() -> dict[str, Tensor]:
    return {"label": torch.tensor([3.0, -1.0, 0.2])}


def test_another_condition_takes_the_null_s_place_sample_by_sample() -> None:
    denoiser, cond = Labelled(), against(label(), other())
    belief = guided(denoiser, 2.5, null())(x(), T, cond).x0
    a, b = denoiser(x(), T, label()).x0, denoiser(x(), T, other()).x0
    torch.testing.assert_close(belief, b + 2.5 * (a - b))
    some = torch.tensor([2, 0])
    part = guided(denoiser, 2.5, null())(x()[some], T, {name: value[some] for name, value in cond.items()}).x0
    torch.testing.assert_close(part, belief[some])
    assert torch.equal(
        guided(denoiser, 2.5, null())(x(), T, against(label(), null())).x0,
        guided(denoiser, 2.5, null())(x(), T, label()).x0,
    )


def test_where_guidance_does_not_act_the_network_is_told_the_condition_alone() -> None:
    told: list[set[str]] = []

    class Telling(Labelled):
        def __call__(self, x_t: Tensor, t: Tensor, cond: dict[str, Tensor] | None = None) -> Point:
            told.append(set(cond or {}))
            return super().__call__(x_t, t, cond)

    denoiser, cond = Telling(), against(label(), other())
    guided(denoiser, 4.0, null(), interval=(0.6, 0.7))(x(), T, cond)
    guided(denoiser, 4.0, weak=denoiser)(x(), T, cond)
    guided(denoiser, 4.0, null())(x(), T, cond)
    assert told == [{"label"}] * 4
    own, weak = parted(cond)
    assert own is not None and weak is not None and own.keys() == weak.keys() == {"label"}
    assert parted(label())[1] is None and parted(None) == (None, None)


def test_autoguidance_goes_away_from_the_weaker_denoiser() -> None:
    strong, weak = Labelled(), Labelled(0.6)
    belief = guided(strong, 2.5, weak=weak)(x(), T, label()).x0
    a, b = strong(x(), T, label()).x0, weak(x(), T, label()).x0
    torch.testing.assert_close(belief, b + 2.5 * (a - b))
    assert guided(strong, 2.5, weak=weak)(x(), T, None).x0.isfinite().all()
    assert weak.evaluations == [3, 3, 3]


def test_rescale_gives_the_strong_belief_s_deviation_back() -> None:
    denoiser = Labelled()
    strong, plain = denoiser(x(), T, label()).x0, guided(denoiser, 6.0, null())(x(), T, label()).x0
    whole = guided(denoiser, 6.0, null(), rescale=1.0)(x(), T, label()).x0
    half = guided(denoiser, 6.0, null(), rescale=0.5)(x(), T, label()).x0
    torch.testing.assert_close(whole.std((1, 2)), strong.std((1, 2)))
    assert bool((plain.std((1, 2)) > 1.2 * strong.std((1, 2))).any())
    torch.testing.assert_close(half, (whole + plain) / 2)
    ratio = whole / plain
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-4, atol=0)


def test_guided_is_a_denoiser_and_can_be_guided() -> None:
    denoiser = Labelled()
    inner = guided(denoiser, 3.0, null())
    assert inner.process is denoiser.process
    outer = guided(inner, 2.0, weak=denoiser)(x(), T, label()).x0
    a, b = inner(x(), T, label()).x0, denoiser(x(), T, label()).x0
    torch.testing.assert_close(outer, b + 2 * (a - b))


def test_a_missing_condition_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"needs a condition to go towards; give a label or a prompt, or scale 1"):
        guided(Labelled(), 3.0, null())(x(), T)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either a null condition or a weaker denoiser"),
        ({"null": null(), "weak": Labelled()}, "not both"),
        ({"null": null(), "interval": (0.5, 0.5)}, "0 ≤ from < to ≤ 1"),
        ({"null": null(), "interval": (-0.1, 0.5)}, "0 ≤ from < to ≤ 1"),
        ({"null": null(), "interval": (0.1, 1.5)}, "0 ≤ from < to ≤ 1"),
        ({"null": null(), "rescale": 1.1}, "rescale is 1.1"),
        ({"null": null(), "rescale": -0.1}, "rescale is -0.1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Guided(Labelled(), 2.0, **options)
