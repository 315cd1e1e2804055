"""Pictures as latents: the codec of an autoencoder that was trained, its cache, and pictures that are begun from and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carrara import files
from carrara.beliefs import Point
from carrara.codecs import encoded as encoded_module
from carrara.codecs.base import Kept
from carrara.codecs.encoded import encoded, mirrored, place_of
from carrara.codecs.kl import Kl
from carrara.codecs.pixels import Pixels
from carrara.data import Dataset, Split
from carrara.data.cache import STAGING, read_meta, write_meta
from carrara.data.dataset import fingerprint
from carrara.errors import InputError, NonFinite, RecipeError
from carrara.kl.bottleneck import Scaling
from carrara.kl.model import KlModel
from carrara.kl.model import build as build_kl
from carrara.model import build
from carrara.processes import Gaussian
from carrara.recipe import check
from carrara.rng import Streams
from carrara.samplers import SAMPLERS
from carrara.schedules import SCHEDULES
from carrara.times import grid
from carrara.training.examples import examples_of

RECIPE: dict[str, Any] = {
    "name": "latents",
    "data": {"kind": "digits"},
    "trainable": {"kind": "kl", "channels": 3, "width": 8, "depth": 1},
}
RNG = torch.Generator().manual_seed(0)
PICTURES = torch.randint(0, 256, (5, 1, 8, 12), dtype=torch.uint8, generator=RNG)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an autoencoder of pictures 8×12, untrained, whose latents are shifted and scaled."""
    return saved(tmp_path / "kl", 2.0)


def saved(folder: Path, scale: float) -> Path:
    made = build_kl(check(RECIPE), (1, 8, 12))
    made.scaling = Scaling(torch.tensor([0.5, 0.0, -0.1]), torch.full((3,), scale))
    made.save(folder)
    return folder


def codec_of(folder: Path) -> Kl:
    """The codec as a recipe makes it."""
    found: Kl = check({"data": {"kind": "digits"}, "codec": {"kind": "kl", "model": str(folder)}}).build("codec")
    return found


def dataset(count: int = 40, flip: bool = False) -> Dataset:
    def split(n: int, seed: int) -> Split:
        media = np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 12), dtype=np.uint8)
        return Split(media, np.zeros(n, np.int64))

    sides = split(count, 1), split(10, 2)
    return Dataset("toy", ("one",), *sides, fingerprint({"flip": flip}, ("one",), *sides), "CC0", "here", flip)


# ---------------------------------------------------------------------------------------------------- there and back


def test_pictures_become_latents_and_pictures(folder: Path) -> None:
    codec = codec_of(folder)
    latents = codec.encode(PICTURES)
    assert latents.shape == (5, *codec.shape((1, 8, 12))) == (5, 3, 2, 3) and latents.dtype == torch.float32
    assert codec.told((1, 8, 12)) == {"channels": 3, "size": 3} and codec.once
    again = codec.decode(latents)
    assert again.shape == PICTURES.shape and again.dtype == torch.uint8
    assert torch.equal(codec.together([again[:2], again[2:]]), again)
    assert codec.encode(PICTURES[..., :4]).shape == (5, 3, 2, 1)  # Its places divide these too.


def test_latents_are_shifted_and_scaled_and_decoded_as_they_were(folder: Path) -> None:
    codec = codec_of(folder)
    raw = codec.model.means(PICTURES)
    shift = torch.tensor([0.5, 0.0, -0.1])[:, None, None]
    torch.testing.assert_close(codec.encode(PICTURES), (raw - shift) / 2)
    plain = Pixels().decode(codec.model.network.back(raw).detach())
    assert int((codec.decode(codec.encode(PICTURES)).int() - plain.int()).abs().max()) <= 1


def test_latents_that_are_no_numbers_are_told(folder: Path) -> None:
    codec, latents = codec_of(folder), torch.zeros(1, 3, 2, 3)
    with pytest.raises(NonFinite, match=r"^the sampled latents hold NaN or infinity"):
        codec.decode(latents * torch.nan)
    with torch.no_grad():
        for parameter in codec.model.network.parameters():
            parameter.mul_(torch.nan)
    with pytest.raises(NonFinite, match=r"^the decoder of the autoencoder .* gives NaN or infinity"):
        codec.decode(latents)


def test_it_is_whole_once_it_was_saved(folder: Path, tmp_path: Path) -> None:
    codec = codec_of(folder)
    assert isinstance(codec, Kept)
    files.write_folder(tmp_path / "kept", codec.save)
    expected = codec.encode(PICTURES)
    shutil.rmtree(folder)
    again = Kl(folder).restore(tmp_path / "kept")
    assert torch.equal(again.encode(PICTURES), expected) and again.sha256 == codec.sha256


# ------------------------------------------------------------------------------------------------------------- refusals


def test_an_autoencoder_that_is_not_there_or_not_finished_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no such folder; train an autoencoder first, e\.g\. carrara train kl-"
    ):
        Kl(tmp_path / "run").encode(PICTURES)
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="neither a model folder"):
        Kl(tmp_path / "run").encode(PICTURES)
    (tmp_path / "run" / "recipe.yaml").touch()
    with pytest.raises(
        InputError, match=r"the run in it is not finished; go on with it by the command that began it"
    ):
        Kl(tmp_path / "run").encode(PICTURES)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    network = {"kind": "unet", "width": 8, "depth": 1}
    recipe = check({"data": {"kind": "digits"}, "condition": {"kind": "none"}, "network": network})
    build(recipe, (1, 8, 8), ()).save(tmp_path / "model")
    with pytest.raises(InputError, match=r"holds a diffusion model, .*; give an autoencoder of latents, such as"):
        Kl(tmp_path / "model").encode(PICTURES)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (
            (3, 8, 12),
            r"knows pictures 1×8×12 and the data has 3×8×12: 1 channel is grey, 3 are RGB\. Train one on this",
        ),
        ((1, 8, 10), r"8×10 pixels do not divide .* a multiple of 4, such as 8 or 12\. Set data\.size"),
        ((1, 9, 12), r"9×12 pixels do not divide .* a multiple of 4, such as 8 or 12"),
        ((), r"the data has texts, and the autoencoder in .* knows pictures 1×8×12; choose data of pictures"),
    ],
)
def test_pictures_that_it_does_not_know_are_refused(folder: Path, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        codec_of(folder).shape(shape)


def test_processes_of_tokens_are_refused(folder: Path) -> None:
    content = {
        "data": {"kind": "digits"},
        "codec": {"kind": "kl", "model": str(folder)},
        "condition": {"kind": "none"},
        "network": {"kind": "tokens"},
        "process": {"kind": "masked"},
        "train_times": {"kind": "uniform"},
    }
    with pytest.raises(
        RecipeError, match="it needs to know length, vocab, and this data has channels, classes, size"
    ):
        build(check(content), (1, 8, 12), ())


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_bounds_of_colours_are_refused_and_wider_ones_taken(folder: Path, kind: str) -> None:
    content = {
        "data": {"kind": "digits"},
        "codec": {"kind": "kl", "model": str(folder)},
        "condition": {"kind": "none"},
        "network": {"kind": "unet", "width": 8, "depth": 1},
    }
    model = build(check(content), (1, 8, 12), ())
    with pytest.raises(InputError, match=f"the threshold '{kind}' keeps x0 from −1 to 1, as colours are"):
        model.wished(1, {"threshold": {"kind": kind}})
    model.wished(1, {"threshold": {"kind": kind, "bound": 4.0}})
    model.wished(1, {"threshold": {"kind": "none"}})


# ------------------------------------------------------------------------------------------------------------ the cache


class Counting(Kl):
    """A codec that counts what it encodes, and is stopped when that is too much."""

    seen, most = 0, 10**9

    def encode(self, media: Tensor) -> Tensor:
        if self.seen + len(media) > self.most:
            raise KeyboardInterrupt
        self.seen += len(media)
        return super().encode(media)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(encoded_module, "_PICTURES_AT_ONCE", 8)
    yield


def test_cached_latents_are_fresh_ones(folder: Path, few: None) -> None:
    codec, data = Counting(folder), dataset()
    train, heldout = encoded(data, codec)
    assert codec.seen == 50 and train.dtype == np.float32 and not train.flags.writeable
    for kept, side in ((train, data.train), (heldout, data.heldout)):
        fresh = codec_of(folder).encode(torch.from_numpy(side.pictures.copy()))
        torch.testing.assert_close(torch.from_numpy(np.array(kept)), fresh, rtol=0, atol=1e-5)
    again = Counting(folder)
    assert np.array_equal(encoded(data, again)[0], train) and again.seen == 0


def test_an_encoding_that_was_stopped_goes_on_and_equals_the_whole(folder: Path, cache: Path, few: None) -> None:
    data, told = dataset(), []
    codec = Counting(folder)
    codec.most = 20
    with pytest.raises(KeyboardInterrupt):
        encoded(data, codec)
    assert codec.seen == 16 and not place_of(data, codec).exists()
    (parts,) = (cache / "encoded").glob(f"{STAGING}parts-*")
    damaged = sorted(parts.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    again = Counting(folder)
    split = encoded(data, again, progress=lambda done, total: told.append((done, total)))
    assert again.seen == 50 - 8 and told == [(min(8 * (i + 1), 40), 50) for i in range(5)] + [(48, 50), (50, 50)]
    assert not parts.exists()
    shutil.rmtree(cache)
    whole = encoded(data, Counting(folder))
    assert all(np.array_equal(one, other) for one, other in zip(split, whole, strict=True))


def test_another_autoencoder_s_latents_are_not_taken(
    folder: Path, tmp_path: Path, few: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither from its own place, nor from where this one's should be."""
    data, other = dataset(), Counting(saved(tmp_path / "other", 5.0))
    theirs = np.array(encoded(data, other)[0])
    codec = Counting(folder)
    ours = np.array(encoded(data, codec)[0])
    assert codec.seen == 50 and not np.array_equal(theirs, ours)
    shutil.rmtree(place_of(data, codec))
    shutil.copytree(place_of(data, other), place_of(data, codec))
    again = Counting(folder)
    assert np.array_equal(encoded(data, again)[0], ours) and again.seen == 50
    assert "it was made by or of another codec, kl " in caplog.text and "making it again" in caplog.text


def test_latents_of_other_data_are_not_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, more, codec = dataset(), dataset(41), codec_of(folder)
    encoded(data, codec)
    shutil.copytree(place_of(data, codec), place_of(more, codec))
    assert len(encoded(more, codec)[0]) == 41 and "another dataset" in caplog.text


def test_a_cache_that_does_not_say_whose_it_is_is_taken(folder: Path) -> None:
    """As caches were written that are older than this."""
    data, codec = dataset(), Counting(folder)
    encoded(data, codec)
    body = read_meta(place_of(data, codec))
    write_meta(place_of(data, codec), {"sha256": body["sha256"]})
    again = Counting(folder)
    encoded(data, again)
    assert again.seen == 0


def test_mirrored_pictures_have_latents_of_their_own(folder: Path) -> None:
    codec, data = codec_of(folder), dataset(flip=True)
    turned = torch.from_numpy(data.train.pictures[..., ::-1].copy())
    torch.testing.assert_close(torch.from_numpy(np.array(mirrored(data, codec))), codec.encode(turned))
    train, heldout = examples_of(data, codec)
    rows, flips = np.arange(6), np.array([True, False] * 3)
    batch = train.batch(rows, flips)["x0"]
    plain = codec.encode(torch.from_numpy(data.train.pictures[:6].copy()))
    torch.testing.assert_close(batch[1::2], plain[1::2])
    torch.testing.assert_close(batch[::2], codec.encode(turned[:6])[::2])
    assert not torch.equal(batch[::2], plain.flip(-1)[::2]) and heldout.mirrored is None


# ------------------------------------------------------------------------------------------------------ starts and masks


def test_a_place_is_made_where_one_of_its_pixels_is(folder: Path) -> None:
    codec = codec_of(folder)
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[3, 4] = mask[7, 11] = True
    latents, made = codec.start(PICTURES[0], mask, (1, 8, 12), 2)
    assert made is not None and made.shape == (2, 1, 2, 3) and latents.shape == (2, 3, 2, 3)
    assert made[0, 0].tolist() == [[False, True, False], [False, False, True]]
    assert codec.start(PICTURES[:2], None, (1, 8, 12), 2)[1] is None
    torch.testing.assert_close(latents[:1], codec.encode(PICTURES[:1]))


# ------------------------------------------------------------------------------------- an autoencoder that loses nothing


class Folded(nn.Module):
    """An autoencoder of grey pictures whose latents are the pixels themselves, 2×2 of them a place."""

    multiple, latents, radius = 2, 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def middle(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = nn.functional.pixel_unshuffle(x, 2)
        return z, torch.zeros_like(z)

    def back(self, z: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(z, 2)


class Elementwise:
    """A denoiser that knows each number alone: the mean of x0 given x_t, x0 being N(0.2, 0.3²)."""

    def __init__(self) -> None:
        self.process = Gaussian(SCHEDULES_FLOW)

    def __call__(self, x_t: Tensor, t: Tensor, cond: Any = None) -> Point:
        a, s = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        gain = a * 0.09 / (a * a * 0.09 + s * s)
        return Point(0.2 + gain.to(x_t) * (x_t - a.to(x_t) * 0.2), torch.zeros_like(x_t))


SCHEDULES_FLOW: Any = check({"data": {"kind": "digits"}}).build("schedule")


@pytest.mark.parametrize("sampler", ["ddim", "heun", "adams"])
def test_with_an_autoencoder_that_loses_nothing_latent_diffusion_is_that_of_pixels(sampler: str) -> None:
    assert SCHEDULES["flow"]
    model = KlModel(check(RECIPE), Folded(), (1, 8, 12), scaling=Scaling.none(4))  # type: ignore[arg-type]
    codec = Kl(Path("nowhere"))
    codec.model = model
    assert torch.equal(codec.decode(codec.encode(PICTURES)), PICTURES)
    times, denoiser = grid("uniform", 6, SCHEDULES_FLOW), Elementwise()
    noise = Streams(range(3)).normal((1, 8, 12))
    walk = SAMPLERS[sampler].walk
    (*_, pixels) = walk(denoiser, noise, times, None, rng=Streams(range(3)))
    (*_, latents) = walk(denoiser, nn.functional.pixel_unshuffle(noise, 2), times, None, rng=Streams(range(3)))
    assert float(pixels.x.std()) > 0.1
    assert torch.equal(codec.decode(latents.x), Pixels().decode(pixels.x))
