from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from carrara.data.pictures import EXTENSIONS, Crop, Damaged, Fit, Picture, TooSmall, decode, quiet

Paint = Any


def fit(size: int = 8, channels: Literal[1, 3] = 3, crop: Crop = "center", upscale: bool = False) -> Fit:
    return Fit(size, channels, crop, upscale)


def pixels(path: Path, how: Fit | None = None) -> np.ndarray:
    found = decode(path, how or fit())
    assert isinstance(found, Picture), found
    assert found.media.dtype == np.uint8
    return found.media


def save(root: Path, name: str, image: Image.Image | np.ndarray, **options: Any) -> Path:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(root / name, **options)
    return root / name


def test_a_picture_of_the_size_asked_is_left_as_it_is(root: Path) -> None:
    media = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(pixels(save(root, "a.png", media)), media.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.tif", "a.gif", "a.ppm", "a.tga", "a.jp2"])
def test_every_format_shows_the_same_picture(paint: Paint, name: str) -> None:
    want = pixels(paint("a.png", size=(96, 80))).astype(int)
    assert abs(pixels(paint(name, size=(96, 80))).astype(int) - want).mean() < 3


def test_every_extension_has_a_decoder() -> None:
    assert set(Image.registered_extensions()) >= EXTENSIONS - {".avif"}


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "PA", "YCbCr"])
def test_colour_modes_come_out_as_rgb_and_as_grey(root: Path, mode: str) -> None:
    image = Image.new("RGB", (16, 16), "white").convert("PA" if mode == "PA" else mode)
    name = "a.tif" if mode in ("CMYK", "YCbCr", "PA") else "a.png"
    path = save(root, name, image)
    assert pixels(path).shape == (3, 8, 8)
    assert pixels(path, fit(channels=1)).shape == (1, 8, 8)
    assert pixels(path).min() >= 254


def test_cmyk_jpeg_is_not_inverted(root: Path) -> None:
    path = save(root, "a.jpg", Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"))
    red, green, blue = pixels(path).mean(axis=(1, 2))
    assert red > 150 > 60 > max(green, blue)


@pytest.mark.parametrize(
    "name", [pytest.param("a.png", id="PNG"), pytest.param("a.tif", id="TIFF"), pytest.param("a.pgm", id="PGM")]
)
def test_sixteen_bit_grey_is_scaled_not_clipped(root: Path, name: str) -> None:
    ramp = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    path = save(root, name, ramp)
    assert np.array_equal(pixels(path, fit(channels=1))[0], np.rint(ramp / 257).astype(np.uint8))


def test_32_bit_grey_is_refused_with_advice(root: Path) -> None:
    found = decode(save(root, "a.tif", np.ones((8, 8), np.float32)), fit())
    assert isinstance(found, Damaged)
    assert "save it with 8 or 16 bits" in found.reason


def test_transparency_is_shown_on_white(root: Path) -> None:
    media = np.zeros((8, 8, 4), np.uint8)
    media[:, :4, 0], media[:, :4, 3] = 255, 128
    shown = pixels(save(root, "a.png", media))
    assert (shown[:, :, 4:] == 255).all()
    assert np.abs(shown[:, 0, 0].astype(int) - [255, 127, 127]).max() <= 1


def test_a_transparent_colour_of_a_palette_is_shown_on_white(root: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert (pixels(save(root, "a.png", image, transparency=0)) == 255).all()


def test_hidden_colours_do_not_bleed_through_when_resized(root: Path) -> None:
    media = np.zeros((32, 32, 4), np.uint8)
    media[:, :16] = [255, 255, 255, 255]
    assert pixels(save(root, "a.png", media)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(root: Path, orientation: int) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8], upright[:8, 8:] = 250, 120
    undo = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]
    stored = Image.fromarray(upright)
    for turn in undo:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(root, "a.png", stored, exif=exif)
    assert np.array_equal(pixels(path, fit(16)), upright.transpose(2, 0, 1))


def test_center_keeps_the_middle_and_squash_the_whole(root: Path) -> None:
    media = np.zeros((8, 24, 3), np.uint8)
    media[:, :8], media[:, 8:16], media[:, 16:] = 50, 100, 150
    path = save(root, "a.png", media)
    assert (pixels(path) == 100).all()
    squashed = pixels(path, fit(crop="squash"))
    assert (squashed[:, :, 0] < 60).all() and (squashed[:, :, -1] > 140).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_fine_stripes_become_grey_instead_of_aliasing(root: Path, name: str) -> None:
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    shown = pixels(save(root, name, stripes), fit(channels=1)).astype(int)
    assert abs(shown - 127).max() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_an_animation_the_first_frame_is_taken_and_it_says_so(root: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#c80000", "#00c800", "#0000c8")]
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(root, name, frames[0], save_all=True, append_images=frames[1:], **options)
    found = decode(path, fit())
    assert isinstance(found, Picture)
    assert found.animated
    assert found.media[:, 0, 0].tolist() == [200, 0, 0]


def test_a_still_picture_is_not_called_animated(paint: Paint) -> None:
    for name in ("a.gif", "a.webp", "a.png", "a.tif", "a.jpg"):
        found = decode(paint(name), fit())
        assert isinstance(found, Picture)
        assert not found.animated


def test_too_small_unless_it_may_be_enlarged(paint: Paint) -> None:
    path = paint("a.png", size=(7, 40))
    assert decode(path, fit(8)) == TooSmall(7, 40)
    assert pixels(path, fit(8, upscale=True)).shape == (3, 8, 8)


def _bomb(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    return path


def test_a_decompression_bomb_is_not_opened(root: Path) -> None:
    found = decode(_bomb(root / "a.png"), fit())
    assert isinstance(found, Damaged)
    assert "3600000000 pixels" in found.reason


def test_a_large_picture_below_twice_the_limit_is_decoded_in_silence(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    path = paint("a.png", size=(24, 20))
    with warnings.catch_warnings(record=True) as heard, quiet():
        assert pixels(path).shape == (3, 8, 8)
    assert heard == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.png", b"not a picture"),
        ("empty.jpg", b""),
        ("doc.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_what_is_no_picture_is_damaged(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    found = decode(root / name, fit())
    assert isinstance(found, Damaged)
    assert "cannot identify" in found.reason


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
def test_a_truncated_file_is_damaged(paint: Paint, name: str) -> None:
    path = paint(name, size=(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert isinstance(decode(path, fit()), Damaged)


def test_broken_exif_does_not_refuse_a_sound_picture(paint: Paint) -> None:
    path = paint("a.jpg", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\xff\x01\x12")
    with quiet():
        assert pixels(path).shape == (3, 8, 8)
