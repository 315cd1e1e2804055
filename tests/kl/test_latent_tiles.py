"""Large pictures in tiles: the same as the whole where what is made depends on near pixels only, and otherwise nearly so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from carrara.errors import InputError
from carrara.kl import model as kl_model
from carrara.kl.model import KlModel, build
from carrara.kl.tiles import Tiles, tiled
from carrara.networks.variational import Variational, radius
from carrara.recipe import check

RECIPE: dict[str, Any] = {
    "name": "latents",
    "data": {"kind": "digits"},
    "trainable": {"kind": "kl", "channels": 3, "width": 8, "depth": 1},
}
ROUNDING = 1e-4
"""Of what three-by-three convolutions compute in tiles, for numbers of about 1."""


def drawn(network: torch.nn.Module) -> None:
    """Draws all of its parameters, as those of its branches begin as nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            spread = 0.5 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def model() -> KlModel:
    made = build(check(RECIPE), (1, 8, 8))
    drawn(made.network)
    return made


def pictures(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("height", "width"), [(64, 200), (200, 64), (168, 172)])
def test_tiles_are_the_whole_where_they_overlap_enough(model: KlModel, height: int, width: int) -> None:
    model.tile = 10_000
    media = pictures(height, width)
    latents, again = model.encode(media), model.again(media)
    model.tile = 24
    assert model.tiles.overlap > 2 * model.network.radius and len(model.tiles.over(max(height, width) // 4)) > 2
    assert float(latents.abs().max()) > 0.1
    torch.testing.assert_close(model.encode(media), latents, rtol=0, atol=ROUNDING * float(latents.abs().max()))
    back = model.again(media)
    assert back.shape == media.shape and float((back.double() - again.double()).abs().max()) <= 1


def test_narrow_overlaps_are_equal_inside_and_blended_where_they_meet(model: KlModel) -> None:
    """Inside: as far from every cut edge as what is made can see."""
    media, r = pictures(8, 400, 1), model.network.radius
    model.tile = 10_000
    latents = model.encode(media)
    model.tile, model.overlap = 30, 4
    found, cuts = model.encode(media), [26, 30, 52, 56, 70, 78, 82]
    off = (found - latents).abs().amax((0, 1, 2))
    inside = [p for p in range(100) if all(abs(p - cut) > r for cut in cuts)]
    assert inside and float(off[inside].max()) < ROUNDING * float(latents.abs().max())
    assert float(off.max()) > 10 * float(off[inside].max())
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("length", [1, 5, 6, 7, 9, 11, 12, 30])
@pytest.mark.parametrize(("side", "overlap", "lost"), [(6, 1, 0), (6, 2, 1), (6, 5, 2), (6, 3, 9)])
def test_tiles_cover_everything_and_give_back_what_has_no_neighbours(
    length: int, side: int, overlap: int, lost: int
) -> None:
    tiles = Tiles(side, overlap, lost)
    laid = tiles.over(length)
    assert {place for tile in laid for place in tile} == set(range(length))
    assert all(len(tile) == min(side, length) for tile in laid) and laid[-1].stop == length
    x = torch.randn(2, 1, length, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tiled(lambda part: 2 * part, x, tiles, 1, 1), 2 * x)
    doubled = tiled(lambda part: part.repeat_interleave(2, 2).repeat_interleave(2, 3), x, tiles, 1, 2)
    torch.testing.assert_close(doubled, x.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize(("side", "overlap"), [(4, 4), (4, 0), (4, 9)])
def test_tiles_that_cannot_be_laid_are_refused(side: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"tiles of {side} places with an overlap of {overlap} cannot be laid"):
        Tiles(side, overlap, 1)


def test_slices_are_the_whole(model: KlModel, monkeypatch: pytest.MonkeyPatch) -> None:
    media = pictures(16, 12, 7)
    latents, again = model.encode(media), model.again(media)
    seen: list[int] = []
    plain = Variational.middle
    monkeypatch.setattr(Variational, "middle", lambda self, x: seen.append(len(x)) or plain(self, x))
    for pixels, slices in ((1, [1] * 7), (3 * 16 * 12, [3, 3, 1]), (10_000, [7])):
        seen.clear()
        monkeypatch.setattr(kl_model, "SLICE", pixels)
        torch.testing.assert_close(model.encode(media), latents, rtol=0, atol=ROUNDING)
        assert seen == slices
    assert float((model.again(media).double() - again.double()).abs().max()) <= 1


def test_no_more_than_one_tile_is_computed_at_once(model: KlModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kl_model, "SLICE", 96 * 96)
    model.tile = 24
    seen: list[int] = []
    plain = Variational.middle
    monkeypatch.setattr(Variational, "middle", lambda self, x: seen.append(x.numel()) or plain(self, x))
    model.encode(pictures(200, 120))
    assert len(seen) > 8 and max(seen) == 96 * 96


@pytest.mark.parametrize("down", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_nothing_further_than_its_radius_makes_a_difference(down: int, depth: int) -> None:
    """Both ways, and one place nearer something does, but for what the halvings of three levels leave over."""
    network = Variational(1, 2, down, 8, depth)
    drawn(network)
    reach, side = radius(down, depth), 2**down
    middle = 2 * reach + 2
    z = torch.randn(1, 2, 1, 2 * middle, generator=torch.Generator().manual_seed(2))
    other = z.clone()
    other[..., :middle] += 1
    with torch.no_grad():
        off = (network.back(z) - network.back(other)).abs().amax((0, 1, 2))
    assert float(off[(middle + reach) * side :].max()) < ROUNDING * float(off.max())
    assert float(off[(middle + reach - 2) * side :].max()) > ROUNDING * float(off.max())
    x = torch.rand(1, 1, side, 2 * middle * side, generator=torch.Generator().manual_seed(3)) - 0.5
    far = x.clone()
    far[..., : middle * side] += 1
    with torch.no_grad():
        moved = (network.middle(x)[0] - network.middle(far)[0]).abs().amax((0, 1, 2))
    assert float(moved[middle + reach :].max()) < ROUNDING * float(moved.max())
