"""One picture file -> uint8 pixels of the size asked, whatever its format, mode, depth and orientation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Crop = Literal["center", "squash"]

EXTENSIONS = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
     ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)  # fmt: skip
# Only decoders that run inside Pillow: EPS, say, would start Ghostscript on a stranger's file.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_MANY_FRAMES = frozenset({"AVIF", "GIF", "PNG", "TIFF", "WEBP"})
_DRAFT = 3


@dataclass(frozen=True)
class Fit:
    """How a picture becomes `size` x `size` with 1 or 3 channels.

    center: the short side becomes `size`, the middle is kept; squash: both sides become `size`, and the proportions
    are lost.
    """

    size: int
    channels: Literal[1, 3]
    crop: Crop
    upscale: bool


@dataclass(frozen=True)
class Picture:
    """A decoded picture, uint8 (C, size, size); `animated` when only the first of its frames is there."""

    media: npt.NDArray[np.uint8]
    animated: bool


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be decoded, and why."""

    reason: str


@dataclass(frozen=True)
class TooSmall:
    """A picture with fewer pixels than asked, when it may not be enlarged."""

    width: int
    height: int


def decode(path: Path, fit: Fit) -> Picture | Damaged | TooSmall:
    """The picture in a file, or what is wrong with it. Reads the first frame, obeys EXIF orientation, white ground."""
    try:
        with Image.open(path, formats=_formats()) as image:
            small = not fit.upscale and min(image.size) < fit.size
            size = image.size
            animated = _many(image)
            upright = None if small else _upright(image, fit)
    # Decoders raise nearly anything on damaged files; whatever it is, the file is named and the reason given.
    except Exception as error:
        return Damaged(str(error) or type(error).__name__)
    if upright is None:
        return TooSmall(*size)
    return Picture(_fitted(upright, fit), animated)


def whole(path: Path, channels: Literal[1, 3]) -> Picture | Damaged:
    """The picture in a file at its own size, uint8 (channels, H, W), or what is wrong with it; else as `decode`."""
    try:
        with Image.open(path, formats=_formats()) as image:
            animated = _many(image)
            image.load()
            upright = on_white(_turned(_eight_bits(image)))
    except Exception as error:
        return Damaged(str(error) or type(error).__name__)
    return Picture(_planes(upright.convert("L") if channels == 1 else upright), animated)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings: its remarks on metadata and on sizes below its limit concern no training picture."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB, what is transparent in it shown on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _many(image: Image.Image) -> bool:
    return image.format in _MANY_FRAMES and bool(getattr(image, "is_animated", False))


def _formats() -> list[str]:
    # Which formats exist depends on how Pillow was built, and it fails on the name of one it does not know.
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _upright(image: Image.Image, fit: Fit) -> Image.Image:
    # A JPEG may be decoded at a fraction of its size; three times the size asked leaves the resampling exact enough.
    image.draft(None, (_DRAFT * fit.size, _DRAFT * fit.size))
    image.load()
    return on_white(_turned(_eight_bits(image)))


def _turned(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    # Broken EXIF in a sound picture says nothing of its orientation, and its reader too raises nearly anything.
    except Exception:
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8 (Pillow would clip it); all else as it is. Raises ValueError on other depths."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if sixteen:
        grey = np.rint(np.asarray(image).astype(np.float64) * (255 / 65535)).astype(np.uint8)
        scaled = Image.fromarray(grey)
        scaled.getexif().update(image.getexif())
        return scaled
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey has no agreed white: save it with 8 or 16 bits")
    return image


def _fitted(image: Image.Image, fit: Fit) -> npt.NDArray[np.uint8]:
    """An RGB picture -> uint8 (C, size, size)."""
    plain = image.convert("L") if fit.channels == 1 else image
    box = _middle(image.size) if fit.crop == "center" else None
    return _planes(plain.resize((fit.size, fit.size), Image.Resampling.LANCZOS, box=box))


def _planes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A grey or RGB picture -> uint8 (1 or 3, H, W)."""
    pixels = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _middle(size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    short = min(size)
    left, top = (width - short) / 2, (height - short) / 2
    return left, top, left + short, top + short
