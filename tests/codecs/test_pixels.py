"""Pictures as their own pixels."""

import pytest
import torch

from carrara.codecs.pixels import Pixels
from carrara.errors import InputError, NonFinite

EVERY = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def test_every_pixel_comes_back() -> None:
    x0 = Pixels().encode(EVERY)
    assert x0.dtype == torch.float32
    assert (x0.min(), x0.max()) == (-1, 1) and bool((x0.flatten().diff() > 0).all())
    assert torch.equal(Pixels().decode(x0), EVERY)
    assert torch.equal(Pixels().decode(x0.double()), EVERY)


def test_every_pixel_comes_back_from_within_half_a_level() -> None:
    for off in (-0.49, 0.49):
        assert torch.equal(Pixels().decode(Pixels().encode(EVERY) + off / 127.5), EVERY)


def test_what_lies_beyond_is_clipped() -> None:
    assert Pixels().decode(torch.tensor([[-9.0, -1.01, 1.01, 9.0]])).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_no_picture(value: float) -> None:
    x0 = torch.zeros(2, 1, 2, 2)
    x0[1, 0, 1, 1] = value
    with pytest.raises(NonFinite, match="the sampled x0 holds NaN or infinity"):
        Pixels().decode(x0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8])
def test_only_bytes_are_pictures(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=f"pictures of dtype {dtype} were given; they must be uint8"):
        Pixels().encode(EVERY.to(dtype))


def test_shapes_are_the_same() -> None:
    assert Pixels().shape((3, 5, 7)) == (3, 5, 7) == tuple(Pixels().encode(torch.zeros(1, 3, 5, 7).byte()).shape[1:])
