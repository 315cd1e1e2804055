"""What a sample takes from outside: bounds, a start, and places that are kept. What samplers make of it is in the laws."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.beliefs import Point
from carrara.codecs.pixels import Pixels
from carrara.conditions.label import NoCondition
from carrara.denoisers import Cond
from carrara.editing import (
    KNOWN,
    MADE,
    THRESHOLDS,
    Edit,
    Kept,
    Thresholded,
    check_threshold,
    dynamic,
    pictures,
    places,
    quantile,
    static,
    thresholded,
    told,
    walked,
)
from carrara.errors import InputError
from carrara.processes import Gaussian
from carrara.sampling import Sampling
from carrara.schedules import Flow, Schedule

F64 = torch.float64
SHAPE, SEEDS = (1, 4, 4), [3, 1, 4]
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


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


# ---------------------------------------------------------------------------------------------------------- thresholds


@each_dtype
@pytest.mark.parametrize("bound", [1.0, 0.7, 3.0])
def test_a_bounded_belief_is_in_its_bound_and_one_within_is_untouched(dtype: torch.dtype, bound: float) -> None:
    far, near = normal(6, 2, 5, 5, scale=9).to(dtype), normal(6, 2, 5, 5).tanh().mul(0.99 * bound).to(dtype)
    limit = torch.tensor(bound, dtype=dtype)
    for bounds in (static, dynamic):
        bounded = bounds(far, bound=bound)
        assert bounded.dtype == dtype and bool((bounded.abs() <= limit).all()) and bool((far.abs() > limit).any())
        assert torch.equal(bounds(near, bound=bound), near)
        assert torch.equal(bounded.sign(), far.sign())


def test_the_dynamic_bound_is_the_samples_own_percentile() -> None:
    """By hand: |x0| is 1 … 10, its 80th percentile 8; what is below 8 keeps its proportions, what is above is white."""
    x0 = torch.tensor([[1.0, -2, 3, -4, 5, -6, 7, -8, 9, -10], [0.1] * 10])
    expected = torch.tensor([[1.0, -2, 3, -4, 5, -6, 7, -8, 8, -8], [0.8] * 10]) / 8
    torch.testing.assert_close(dynamic(x0, percentile=0.8), expected)
    torch.testing.assert_close(dynamic(x0, percentile=0.8, bound=2.0)[0], 2 * expected[0])
    torch.testing.assert_close(dynamic(x0, percentile=0.8, ceiling=4.0)[0], (x0[0] / 4).clamp(-1, 1))
    assert torch.equal(dynamic(x0, percentile=0.8, ceiling=1.0), static(x0))


def test_the_quantile_is_what_that_share_does_not_exceed() -> None:
    x = normal(4, 3, 7)
    for share in (1e-9, 0.1, 1 / 3, 0.5, 0.995, 1.0):
        q = quantile(x, share)
        below = (x <= q[:, None, None]).flatten(1).double().mean(1)
        less = (x < q[:, None, None]).flatten(1).double().mean(1)
        assert bool((below >= share - 1e-9).all()) and bool((less < share).all())
    assert torch.equal(quantile(x, 1.0), x.amax((1, 2)))
    # 0.07 · 100 is above 7 in floating point.
    assert float(quantile(torch.arange(100.0)[None], 0.07)) == 6


def test_a_threshold_sees_each_sample_alone() -> None:
    x0 = normal(5, 2, 6, 6, scale=3) * torch.arange(1, 6)[:, None, None, None]
    whole = dynamic(x0, percentile=0.9)
    assert all(torch.equal(dynamic(x0[i : i + 1], percentile=0.9)[0], whole[i]) for i in range(5))


class Loud:
    """A belief that leaves every bound, and its variance; with a condition it is louder."""

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.process = Gaussian(schedule or Flow())

    def __call__(self, x_t: Tensor, t: Tensor, cond: Mapping[str, Tensor] | None = None) -> Point:
        gain = 3.0 if cond is None else 3.0 + cond["label"].to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return Point(gain * torch.sin(5 * x_t + t.to(x_t)), torch.full_like(x_t, 0.4))


def test_a_threshold_is_outside_of_guidance_and_keeps_the_variance() -> None:
    denoiser = Sampling(guidance_scale=4.0, threshold={"kind": "static"})
    inner = denoiser.guide(Loud(), {"label": torch.zeros(3)})
    x, t, cond = normal(3, *SHAPE), torch.tensor(0.5, dtype=F64), {"label": torch.ones(3)}
    bounded = thresholded(inner, **denoiser.threshold)(x, t, cond)
    assert torch.equal(bounded.x0, inner(x, t, cond).x0.clamp(-1, 1))
    assert torch.equal(bounded.variance, torch.full_like(x, 0.4))
    walked_beliefs = [step.belief.x0 for step in denoiser.walk(Loud(), Labels(), SHAPE, cond, SEEDS)]
    assert max(float(x0.abs().max()) for x0 in walked_beliefs) == 1


class Labels(NoCondition):
    """A null condition for the guided walk."""

    def null(self, count: int) -> Cond | None:
        return {"label": torch.zeros(count)}


def test_no_threshold_is_no_wrapper() -> None:
    denoiser = Loud()
    assert thresholded(denoiser) is denoiser and thresholded(denoiser, "none") is denoiser
    assert isinstance(thresholded(denoiser, "static"), Thresholded)
    assert torch.equal(THRESHOLDS["none"](normal(3)), normal(3))


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("dynamic", r"threshold is 'dynamic'; it needs a kind, as in \{kind: dynamic\}: dynamic, none, static"),
        ({}, "needs a kind"),
        ({"bound": 1.0}, "needs a kind"),
        ({"kind": "dynamc"}, r"no threshold called 'dynamc': did you mean 'dynamic'\?"),
        ({"kind": "static", "percentile": 0.9}, "the threshold 'static' has no option 'percentile'"),
        ({"kind": "none", "bound": 1.0}, "has no option 'bound': it takes none"),
        ({"kind": "dynamic", "x0": 1.0}, "no option 'x0'"),
        ({"kind": "static", "bound": 0}, "bound of the threshold 'static' is 0"),
        ({"kind": "static", "bound": float("inf")}, "is inf; it must be a number above 0 and finite"),
        ({"kind": "static", "bound": float("nan")}, "is nan"),
        ({"kind": "static", "bound": "1"}, "is '1'"),
        ({"kind": "static", "bound": True}, "is True"),
        ({"kind": "dynamic", "percentile": 99.5}, r"percentile is 99.5; it is a share and at most 1"),
        ({"kind": "dynamic", "ceiling": 0.5}, r"ceiling is 0.5, below its bound 1.0"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(threshold: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_threshold(threshold)
    with pytest.raises(InputError, match=said):
        Sampling(threshold=threshold)


# --------------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("steps", "strength", "expected"),
    [
        (10, 1.0, 10),
        (10, 0.6, 6),
        (10, 0.01, 1),
        (1, 0.3, 1),
        (8, 0.6, 5),
        (8, 0.3, 2),
        (50, 0.999, 50),
        (1000, 0.001, 1),
    ],
)
def test_strength_is_the_share_of_the_steps(steps: int, strength: float, expected: int) -> None:
    times = Sampling(steps=steps).grid(Flow())
    path = edit(strength).path(times)
    assert walked(steps, strength) == expected == len(path) - 1
    assert torch.equal(path, times[steps - expected :]) and path[-1] == 0


# ---------------------------------------------------------------------------------------------------------------- mask


def test_what_is_known_is_sure_and_the_condition_passes_on() -> None:
    seen: list[Any] = []

    class Asked(Loud):
        def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Point:
            seen.append(cond)
            return super().__call__(x_t, t, cond)

    denoiser, x, t = Asked(), normal(3, *SHAPE).bfloat16(), torch.tensor(0.5, dtype=F64)
    change, label = edit(1.0, mask()), {"label": torch.ones(3)}
    assert change.made is not None
    for cond in (None, label):
        kept, both = change.keep(denoiser, cond)
        belief, own = kept(x, t, both), denoiser(x, t, cond)
        assert kept.process is denoiser.process and belief.x0.dtype == torch.bfloat16
        made = change.made.expand_as(belief.x0)
        assert torch.equal(belief.x0[made], own.x0[made])
        assert torch.equal(belief.x0[~made], change.x0.bfloat16()[~made])
        assert belief.variance is not None and not belief.variance[~made].any()
        assert bool((belief.variance[made] == 0.4).all() | (belief.variance[made] - 0.4).abs().max().lt(1e-2))
    assert seen[0] is None and seen[2].keys() == {"label"} and label.keys() == {"label"}
    assert edit(0.5).keep(denoiser, label) == (denoiser, label)
    with pytest.raises(InputError, match="what is kept was not told"):
        Kept(denoiser)(x, t, label)
    assert told(None, change.x0, change.made).keys() == {KNOWN, MADE}


def test_a_belief_without_variance_has_none_when_kept() -> None:
    class Plain(Loud):
        def __call__(self, x_t: Tensor, t: Tensor, cond: object = None) -> Point:
            return Point(x_t)

    kept, cond = edit(1.0, mask()).keep(Plain(), None)
    assert kept(normal(3, *SHAPE), torch.tensor(0.5, dtype=F64), cond).variance is None


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, float("nan"), True, "0.5"])
def test_strengths_that_cannot_be_are_refused(strength: Any) -> None:
    with pytest.raises(InputError, match=r"strength is .*; it is the share of the steps that are walked: above 0"):
        edit(strength)


def test_starts_are_one_or_one_for_each() -> None:
    one = media(1)[0]
    assert torch.equal(pictures(one, SHAPE, 3), one.expand(3, *SHAPE))
    assert torch.equal(pictures(one[None], SHAPE, 3), one.expand(3, *SHAPE))
    assert torch.equal(pictures(media(), SHAPE, 3), media())
    for wrong in (media(2), media()[..., :3], one[0], media().tolist()):
        with pytest.raises(
            InputError, match=r"start is .*; give a uint8 tensor \(1, 4, 4\), or one for each of the 3"
        ):
            pictures(wrong, SHAPE, 3)


def test_masks_are_one_or_one_for_each() -> None:
    expected = mask().expand(3, 1, 4, 4)
    for given in (
        mask(),
        mask()[None],
        mask()[None, None],
        mask().expand(3, 4, 4),
        expected,
        255 * mask().byte(),
        mask().byte(),
    ):
        found = places(given, (4, 4), 3)
        assert torch.equal(found, expected) and found.dtype == torch.bool
    each = torch.stack([mask(), ~mask(), mask()])
    assert torch.equal(places(each, (4, 4), 3)[:, 0], each)
    for wrong in (mask()[:3], mask().expand(2, 4, 4), mask().expand(3, 2, 4, 4), mask()[None, None, None]):
        with pytest.raises(
            InputError, match=r"mask has the shape .*; give \(4, 4\), or one for each of the 3 samples"
        ):
            places(wrong, (4, 4), 3)
    for wrong in (mask().float(), mask().tolist()):
        with pytest.raises(InputError, match=r"mask is .*; it must be a bool or uint8 tensor"):
            places(wrong, (4, 4), 3)
