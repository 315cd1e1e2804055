"""Pictures of pictures: contact sheets, the denoising film, and the bytes a page or a folder needs of them.

Everything here takes uint8 media of shape (N, C, H, W) with C = 1 (grey) or 3 (RGB), as a codec's `decode` gives it, and
enlarges it by whole numbers without smoothing, so that a pixel of a sample stays a square of one colour.
"""

from __future__ import annotations

import base64
import io
import math
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from carrara import files
from carrara.errors import InputError
from carrara.evaluation.fonts import font

Media = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_TILE, _FILM_TILE = 64, 48  # smallest side of an enlarged picture, in pixels of the sheet
_PAD = 10
_TEXT = 13
_BAR = 3
_CAPTIONED = 96
_GREYS = (
    0,
    40,
    96,
    150,
    201,
    225,
    255,
)  # kept in every palette, so that text and bar stay grey beside coloured pictures


def grid(
    images: Media, columns: int | None = None, scale: int | None = None, gap: int = 2, background: int = 255
) -> Image.Image:
    """A contact sheet: picture k stands in row k // columns, column k % columns.

    `images` is uint8 (N, C, H, W). `columns` defaults to a nearly square sheet with the fewest empty places; `scale`, the
    whole-number enlargement, to the first that makes a tile's longer side 64 pixels or more; `gap` pixels of the grey level
    `background` (0 … 255) lie between tiles and none around the sheet. Raises InputError for anything else.
    """
    tiles = _enlarged(images, scale, _TILE)
    columns = _columns(len(tiles)) if columns is None else _at_least(1, columns, "columns")
    gap, background = _at_least(0, gap, "gap"), _level(background)
    height, width, channels = tiles.shape[1:]
    rows = math.ceil(len(tiles) / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, background, np.uint8)
    for k, tile in enumerate(tiles):
        top, left = (k // columns) * (height + gap), (k % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def labelled_grid(
    images: Media,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int | None = None,
    gap: int = 2,
    background: int = 255,
) -> Image.Image:
    """A contact sheet with a name left of every row, above every column, or both; its tiles fill the lower right corner.

    `images` is uint8 (N, C, H, W) in reading order; N must fill the labelled rows and columns exactly. A name wider than
    its place (a tile for columns, 160 pixels for rows) is shortened with an ellipsis. Raises InputError otherwise.
    """
    sheet = grid(images, _labelled_columns(len(images), row_labels, column_labels), scale, gap, background)
    rows = [_shortened(label, 160) for label in row_labels]
    tile = (sheet.width + gap) / max(len(column_labels), 1)
    columns = [_shortened(label, tile - gap) for label in column_labels]
    left = math.ceil(max(map(_width, rows))) + _PAD + 2 if rows else 0
    top = 2 * _TEXT if columns else 0
    canvas = Image.new(sheet.mode, (left + sheet.width, top + sheet.height), _grey(sheet.mode, background))
    canvas.paste(sheet, (left, top))
    pitch = (sheet.height + gap) / max(len(rows), 1)
    for row, label in enumerate(rows):
        _write(canvas, (left - _PAD, top + row * pitch + (pitch - gap) / 2), label, "rm", background)
    for column, label in enumerate(columns):
        _write(canvas, (left + column * tile + (tile - gap) / 2, top - _TEXT / 2), label, "ms", background)
    return canvas


def captioned_grid(
    images: Media, captions: Sequence[str], columns: int | None = None, gap: int = 2, background: int = 255
) -> Image.Image:
    """A contact sheet with each picture's caption above it, shortened where it is wider than the picture.

    `images` is uint8 (N, C, H, W), `captions` are N; a picture is enlarged until it is 96 pixels wide or more. Raises InputError
    for another number of captions.
    """
    if len(captions) != len(images):
        raise InputError(f"{len(captions)} captions were given for {len(images)} pictures; give one for each")
    columns = columns or min(_columns(len(images)), 8)
    empty = -len(images) % columns
    tiles = np.concatenate([images, np.full((empty, *images.shape[1:]), background, np.uint8)])
    words, scale = [*captions, *[""] * empty], math.ceil(_CAPTIONED / images.shape[3])
    rows = [
        labelled_grid(tiles[k : k + columns], (), words[k : k + columns], scale, gap, background)
        for k in range(0, len(tiles), columns)
    ]
    sheet = Image.new(rows[0].mode, (rows[0].width, sum(row.height for row in rows)), _grey(rows[0].mode, background))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    return sheet


def film(
    frames: Sequence[tuple[Media, Media]],
    times: Sequence[float],
    columns: int | None = None,
    scale: int | None = None,
    gap: int = 2,
    background: int = 255,
) -> list[Image.Image]:
    """The denoising film: one picture a step with x_t on the left, the predicted x0 on the right, the time and a bar below.

    `frames` holds pairs (x_t, x0) of uint8 (N, C, H, W), all of one shape; `times` holds each pair's t in [0, 1], where
    1 is noise and 0 is data, so the bar's filled part is 1 − t. Every picture has the same size. Raises InputError when
    there is no frame, when there are not as many times as frames, or when shapes differ.
    """
    _check_film(frames, times)
    scale = scale or _scale(frames[0][0], _FILM_TILE)
    return [
        _frame(grid(x_t, columns, scale, gap, background), grid(x0, columns, scale, gap, background), t, background)
        for (x_t, x0), t in zip(frames, times, strict=True)
    ]


def gif_bytes(
    frames: Sequence[Image.Image], duration_ms: int = 80, hold_last_ms: int = 2000, colours: int = 128
) -> bytes:
    """A GIF that plays for ever: each frame `duration_ms` long, the last `hold_last_ms`.

    All frames share one palette of at most `colours` (2 … 256) colours and are not dithered: dithering would flicker from
    frame to frame and several times the file's size. Frames that hold no more colours than that are stored without loss.
    Durations are kept to 10 ms, the format's own unit. Raises InputError for no frames or frames of different sizes.
    """
    if not frames or len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise InputError(
            f"a film needs at least one frame and all of one size; given: {len(frames)} of sizes {sizes}"
        )
    reduced = _reduced(frames, min(_at_least(2, colours, "colours"), 256))
    durations = [duration_ms] * (len(frames) - 1) + [hold_last_ms]
    buffer = io.BytesIO()
    reduced[0].save(
        buffer, "GIF", save_all=True, append_images=reduced[1:], duration=durations, loop=0, optimize=False
    )
    return buffer.getvalue()


def save_gif(
    frames: Sequence[Image.Image],
    path: str | os.PathLike[str],
    duration_ms: int = 80,
    hold_last_ms: int = 2000,
    colours: int = 128,
) -> Path:
    """The path of the GIF just written, whole or not at all, its folder made if need be: see `gif_bytes`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, gif_bytes(frames, duration_ms, hold_last_ms, colours))
    return path


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG file's bytes: without loss, and the same bytes for the same picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(data: bytes, mime: str) -> str:
    """An address that holds the data itself, for a page that must open without any other file."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


# --- tiles ---------------------------------------------------------------------------------------------------------


def _enlarged(images: Media, scale: int | None, target: int) -> Media:
    """The pictures as (N, H·scale, W·scale, C)."""
    _check_media(images)
    scale = _scale(images, target) if scale is None else _at_least(1, scale, "scale")
    return images.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)


def _scale(images: Media, target: int) -> int:
    longer: int = max(images.shape[2:])
    return math.ceil(target / longer)


def _columns(count: int) -> int:
    side = math.ceil(math.sqrt(count))
    return min(range(side, 2 * side + 1), key=lambda columns: (-count % columns, columns))


def _labelled_columns(count: int, row_labels: Sequence[str], column_labels: Sequence[str]) -> int:
    rows = len(row_labels) or count // max(len(column_labels), 1)
    columns = len(column_labels) or count // max(len(row_labels), 1)
    if not (row_labels or column_labels) or rows * columns != count or not count:
        raise InputError(
            f"{count} pictures do not fill {len(row_labels)} labelled rows and {len(column_labels)} labelled columns; "
            "give as many pictures as rows times columns, and labels for rows, columns or both"
        )
    return columns


# --- films ---------------------------------------------------------------------------------------------------------


def _frame(x_t: Image.Image, x0: Image.Image, t: float, background: int) -> Image.Image:
    head, foot = _TEXT + 2 * _PAD, _TEXT + _BAR + 3 * _PAD
    size = (x_t.width + x0.width + 4 * _PAD, x_t.height + head + foot)
    canvas = Image.new(x_t.mode, size, _grey(x_t.mode, background))
    right = x_t.width + 3 * _PAD
    canvas.paste(x_t, (_PAD, head))
    canvas.paste(x0, (right, head))
    baseline = head - _PAD
    for left, name, index in ((_PAD, "x", "t"), (right, "predicted x", "0")):
        _write(canvas, (left, baseline), name, "ls", background)
        _write(canvas, (left + _width(name) + 1, baseline + 3), index, "ls", background, _TEXT - 3)
    _bar(canvas, head + x_t.height + _PAD, 1 - t, background)
    _write(canvas, (_PAD, canvas.height - _PAD), f"t = {t:.2f}", "ls", background)
    return canvas


def _bar(canvas: Image.Image, top: int, filled: float, background: int) -> None:
    left, right = _PAD, canvas.width - _PAD - 1
    end = left + round((right - left) * min(max(filled, 0.0), 1.0))
    draw = ImageDraw.Draw(canvas)
    faint = (3 * background + _ink(background)) // 4
    draw.rectangle((left, top, right, top + _BAR - 1), _grey(canvas.mode, faint))
    if end > left:
        draw.rectangle((left, top, end, top + _BAR - 1), _grey(canvas.mode, _ink(background)))


def _reduced(frames: Sequence[Image.Image], colours: int) -> list[Image.Image]:
    """The frames as indices into one palette."""
    rgb = [frame.convert("RGB") for frame in frames]
    few = _few_colours(rgb, colours)
    if few is not None:
        return [_indexed(frame, few) for frame in rgb]
    palette = _palette(rgb, colours)
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in rgb]


def _few_colours(frames: Iterable[Image.Image], colours: int) -> list[Colour] | None:
    """The colours of all frames in order, or None where there are more than `colours`."""
    seen: set[Colour] = set()
    for frame in frames:
        found = frame.getcolors(colours)
        if found is None:
            return None
        seen.update(cast(Colour, colour) for _, colour in found)
    return sorted(seen) if len(seen) <= colours else None


def _indexed(frame: Image.Image, colours: list[Colour]) -> Image.Image:
    """The frame in exactly these colours: Pillow's own search would confuse those that differ by less than four."""
    weights = np.array([1 << 16, 1 << 8, 1])
    indices = np.searchsorted(np.array(colours) @ weights, np.array(frame) @ weights)
    indexed = Image.fromarray(indices.astype(np.uint8))
    indexed.putpalette([level for colour in colours for level in colour])
    return indexed


def _palette(frames: Sequence[Image.Image], colours: int) -> Image.Image:
    """A picture in mode P with the film's palette.

    The last frames show the samples and the first ones noise, which no palette fits and no eye compares: the last frame
    counts as much as all the others together.
    """
    some = list(frames[:: max(1, len(frames) // 6)])
    weighed = some + [frames[-1]] * len(some)
    width, height = frames[0].size
    strip = Image.new("RGB", (width, height * len(weighed)))
    for row, frame in enumerate(weighed):
        strip.paste(frame, (0, row * height))
    kept = [(grey, grey, grey) for grey in _GREYS] if colours >= 4 * len(_GREYS) else []
    found = strip.quantize(colours - len(kept), method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    levels = (found.getpalette() or [])[: 3 * (colours - len(kept))]
    chosen = [_replaced((r, g, b), kept) for r, g, b in zip(levels[::3], levels[1::3], levels[2::3], strict=True)]
    found.putpalette([level for colour in chosen + kept for level in colour])
    return found


def _replaced(colour: Colour, kept: Sequence[Colour]) -> Colour:
    """The kept colour that this one would be mistaken for, if there is one, else the colour itself."""
    near = (other for other in kept if max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= 8)
    return next(near, colour)


# --- writing -------------------------------------------------------------------------------------------------------


def _write(
    canvas: Image.Image, at: tuple[float, float], text: str, anchor: str, background: int, size: int = _TEXT
) -> None:
    ink = _grey(canvas.mode, _ink(background))
    ImageDraw.Draw(canvas).text(at, text, fill=ink, font=font(text, size), anchor=anchor)


def _width(text: str) -> float:
    return font(text, _TEXT).getlength(text)


def _shortened(text: str, width: float) -> str:
    text = " ".join(text.split())
    if _width(text) <= width:
        return text
    fits = bisect_left(range(len(text)), True, key=lambda last: _width(f"{text[: last + 1]}…") > width)
    return text[:fits].rstrip() + "…"


def _ink(background: int) -> int:
    return 40 if background > 127 else 225


def _grey(mode: str, level: int) -> int | tuple[int, int, int]:
    return level if mode == "L" else (level, level, level)


# --- refusals ------------------------------------------------------------------------------------------------------


def _check_media(images: Media) -> None:
    shape: tuple[int, ...] = np.shape(images)
    if len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape or images.dtype != np.uint8:
        raise InputError(
            f"a sheet needs at least one picture, as uint8 of shape (N, C, H, W) with C = 1 (grey) or 3 (RGB); "
            f"given: {getattr(images, 'dtype', type(images).__name__)} of shape {shape}"
        )


def _check_film(frames: Sequence[tuple[Media, Media]], times: Sequence[float]) -> None:
    if not frames or len(frames) != len(times):
        raise InputError(
            f"a film needs at least one frame and one time a frame; given: {len(frames)} frames, {len(times)} times"
        )
    for pair in frames:
        for images in pair:
            _check_media(images)
    shapes = {images.shape for pair in frames for images in pair}
    if len(shapes) > 1:
        raise InputError(f"all pictures of a film must have one shape; given: {sorted(shapes)}")


def _at_least(least: int, given: int, name: str) -> int:
    if given < least:
        raise InputError(f"{name} = {given} is not possible: give {least} or more")
    return given


def _level(background: int) -> int:
    if not 0 <= background <= 255:
        raise InputError(f"background = {background} is not a grey level from 0 (black) to 255 (white)")
    return background
