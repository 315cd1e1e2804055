"""How like two pictures are: equal ones, shifted ones, and ones that have only noise in common."""

from __future__ import annotations

import math

import pytest
import torch

from carrara.evaluation.fidelity import K1, fidelity, mse, psnr, ssim, window

RNG = torch.Generator().manual_seed(0)
PICTURES = torch.randint(0, 256, (3, 3, 24, 20), dtype=torch.uint8, generator=RNG)


def test_equal_pictures_are_wholly_alike() -> None:
    assert fidelity(PICTURES, PICTURES) == {"mse": 0, "psnr": math.inf, "ssim": pytest.approx(1, abs=1e-5)}


def test_error_and_signal_by_hand() -> None:
    black, grey = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    assert mse(black, grey) == pytest.approx(0.04) and psnr(0.04) == pytest.approx(13.979, abs=1e-3)


def test_of_flat_pictures_only_their_levels_count() -> None:
    """(2 a b + c1) / (a² + b² + c1), as nothing varies."""
    one, other = (torch.full((1, 1, 16, 16), level, dtype=torch.uint8) for level in (51, 102))
    assert ssim(one, other) == pytest.approx((2 * 0.2 * 0.4 + K1**2) / (0.04 + 0.16 + K1**2), abs=1e-4)


def test_similarity_has_no_order_and_falls_with_noise() -> None:
    smooth = (torch.arange(32.0)[:, None] + torch.arange(32.0)).mul(4).expand(2, 1, 32, 32)
    noise = torch.randn(2, 1, 32, 32, generator=RNG)
    found = [ssim(smooth.to(torch.uint8), (smooth + s * noise).clamp(0, 255).to(torch.uint8)) for s in (0, 4, 16, 64)]
    assert found == sorted(found, reverse=True) and found[0] > 0.999 and found[-1] < 0.5
    mirrored = PICTURES.flip(-1)
    assert ssim(PICTURES, mirrored) == pytest.approx(ssim(mirrored, PICTURES), abs=1e-6)
    assert abs(ssim(PICTURES, mirrored)) < 0.1


def test_it_is_the_mean_of_each_picture_s_own() -> None:
    other = PICTURES.flip(-1)
    each = [ssim(x[None], y[None]) for x, y in zip(PICTURES, other, strict=True)]
    assert ssim(PICTURES, other) == pytest.approx(sum(each) / 3, abs=1e-6)


def test_it_is_the_formula_place_by_place() -> None:
    """Computed by hand at one place of one channel, in float64."""
    x, y = (picture[0, 0, :11, :11].double() / 255 for picture in (PICTURES, PICTURES.flip(-1)))
    w = window(11).double()[:, None] * window(11).double()
    a, b = (w * x).sum(), (w * y).sum()
    va, vb, cov = ((w * (p - m) * (q - n)).sum() for p, m, q, n in ((x, a, x, a), (y, b, y, b), (x, a, y, b)))
    expected = (2 * a * b + 1e-4) * (2 * cov + 9e-4) / ((a * a + b * b + 1e-4) * (va + vb + 9e-4))
    found = ssim(PICTURES[:1, :1, :11, :11], PICTURES.flip(-1)[:1, :1, :11, :11])
    assert found == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 8, 11])
def test_small_pictures_have_a_smaller_window(size: int) -> None:
    weights = window(size)
    assert len(weights) == size - 1 + size % 2 and float(weights.sum()) == pytest.approx(1)
    small = PICTURES[..., :size, :size]
    assert ssim(small, small) == pytest.approx(1, abs=1e-5)
