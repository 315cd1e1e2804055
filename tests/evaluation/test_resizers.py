"""Resizers: one is Pillow's to the last bit of float32, the other TensorFlow 1's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from photographs import photographs
from PIL import Image
from torch import Tensor

from carrara.evaluation.resizers import RESIZERS, clean, tensorflow


def by_pillow(image: Tensor, size: int) -> Tensor:
    """One channel (H, W) resized by Pillow itself in mode F, and clipped as clean-fid does."""
    floats = Image.fromarray(image.numpy().astype(np.float32))
    return torch.from_numpy(np.array(floats.resize((size, size), Image.Resampling.BICUBIC))).clip(0, 255)


def by_tensorflow(image: list[list[int]], size: int) -> list[list[float]]:
    """One channel, place by place, as the kernel ResizeBilinear of TensorFlow 1 writes it down."""
    height, width = len(image), len(image[0])
    found = []
    for row in range(size):
        y = row * height / size
        top, bottom = image[math.floor(y)], image[min(math.floor(y) + 1, height - 1)]
        line = []
        for column in range(size):
            x = column * width / size
            left, right = math.floor(x), min(math.floor(x) + 1, width - 1)
            above = top[left] + (top[right] - top[left]) * (x - left)
            below = bottom[left] + (bottom[right] - bottom[left]) * (x - left)
            line.append(above + (below - above) * (y - math.floor(y)))
        found.append(line)
    return found


@pytest.mark.parametrize(("size", "target"), [(8, 112), (28, 299), (72, 30), (299, 299), (400, 299), (427, 112)])
def test_clean_is_pillows_own_on_photographs(size: int, target: int) -> None:
    images = photographs(2, size)
    expected = torch.stack([torch.stack([by_pillow(channel, target) for channel in image]) for image in images])
    torch.testing.assert_close(clean(images, target), expected, rtol=0, atol=2e-5, check_stride=False)


def test_clean_is_pillows_own_on_oblong_pictures_and_clips() -> None:
    images = photographs(1, 200)[:, :1, :, :90]
    images[..., 45:] = 255 * (images[..., 45:] > 127)
    found = clean(images, 64)
    torch.testing.assert_close(found[0, 0], by_pillow(images[0, 0], 64), rtol=0, atol=2e-5, check_stride=False)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize(("size", "target"), [(5, 16), (28, 45), (50, 17), (24, 24)])
def test_tensorflow_is_the_kernel_place_by_place(size: int, target: int) -> None:
    image = photographs(1, size)
    expected = torch.tensor([by_tensorflow(channel.tolist(), target) for channel in image[0]])
    torch.testing.assert_close(tensorflow(image, target)[0], expected, rtol=0, atol=1e-3, check_stride=False)


def test_tensorflow_twice_as_large_repeats_and_halves_and_half_as_large_picks() -> None:
    row = torch.tensor([[[[0, 100, 40]] * 3]], dtype=torch.uint8)
    assert tensorflow(row, 6)[0, 0, 0].tolist() == [0, 50, 100, 70, 40, 40]
    image = photographs(1, 40)
    assert torch.equal(tensorflow(image, 20), image[..., ::2, ::2].float())


@pytest.mark.parametrize("name", RESIZERS)
def test_a_picture_of_the_right_size_is_left_as_it_is(name: str) -> None:
    image = photographs(1, 64)
    assert torch.equal(RESIZERS[name].function(image, 64), image.float())


@pytest.mark.parametrize("name", RESIZERS)
def test_results_name_the_resizer_and_what_it_is_given(name: str) -> None:
    assert RESIZERS[name].words.startswith(f"{name}: ") and "uint8" in RESIZERS[name].words


@pytest.mark.parametrize("name", RESIZERS)
def test_grey_is_repeated_and_one_colour_stays(name: str) -> None:
    image = torch.full((1, 1, 7, 9), 200, dtype=torch.uint8)
    torch.testing.assert_close(
        RESIZERS[name].function(image, 12), torch.full((1, 3, 12, 12), 200.0), check_stride=False
    )
