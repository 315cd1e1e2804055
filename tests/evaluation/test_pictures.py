"""Contact sheets, films and GIFs, pixel by pixel."""

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from carrara.errors import InputError
from carrara.evaluation import pictures

Media = npt.NDArray[np.uint8]


def media(n: int, channels: int = 1, height: int = 3, width: int = 5, seed: int = 0) -> Media:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


def enlarged(image: Media, scale: int) -> Media:
    """One picture (C, H, W) as Pillow's array of it: (H, W) or (H, W, C)."""
    big = np.kron(image, np.ones((1, scale, scale), np.uint8))
    return big[0] if len(big) == 1 else big.transpose(1, 2, 0)


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 13),
    channels=st.sampled_from([1, 3]),
    columns=st.integers(1, 6),
    scale=st.integers(1, 4),
    gap=st.integers(0, 3),
)
def test_every_tile_is_its_enlarged_picture_and_all_else_is_background(
    n: int, channels: int, columns: int, scale: int, gap: int
) -> None:
    images = media(n, channels)
    sheet = np.array(pictures.grid(images, columns, scale, gap, background=77))
    height, width = 3 * scale, 5 * scale
    rows = -(-n // columns)
    assert sheet.shape[:2] == (rows * (height + gap) - gap, columns * (width + gap) - gap)
    for k in range(n):
        top, left = (k // columns) * (height + gap), (k % columns) * (width + gap)
        tile = sheet[top : top + height, left : left + width]
        assert (tile == enlarged(images[k], scale)).all()
        tile[:] = 77
    assert (sheet == 77).all()


@pytest.mark.parametrize(("side", "scale"), [(8, 8), (16, 4), (28, 3), (32, 2), (64, 1), (200, 1)])
def test_small_pictures_are_enlarged_to_64_pixels_or_more(side: int, scale: int) -> None:
    assert pictures.grid(media(1, height=side, width=side)).size == (side * scale, side * scale)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (4, 2), (10, 5), (7, 4), (64, 8), (100, 10)])
def test_the_default_sheet_is_nearly_square_with_few_empty_places(n: int, columns: int) -> None:
    assert pictures.grid(media(n), scale=1, gap=0).width == 5 * columns


@pytest.mark.parametrize(
    "bad",
    [
        media(0),
        media(2, channels=2),
        media(2)[0],
        media(2).astype(np.float32),
        np.zeros((1, 1, 0, 4), np.uint8),
    ],
    ids=["none", "two channels", "no batch", "floats", "no pixels"],
)
def test_what_is_no_uint8_batch_is_refused_with_its_shape(bad: Media) -> None:
    with pytest.raises(InputError) as refusal:
        pictures.grid(bad)
    assert str(bad.shape) in str(refusal.value)
    assert str(bad.dtype) in str(refusal.value)


@pytest.mark.parametrize(
    "options", [{"columns": 0}, {"scale": 0}, {"gap": -1}, {"background": 256}, {"background": -1}]
)
def test_impossible_layouts_are_refused_by_name(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        pictures.grid(media(2), **options)


def test_labels_leave_the_sheet_as_it_is_in_the_lower_right_corner() -> None:
    images = media(6, 3, 8, 8)
    sheet = pictures.grid(images, columns=3)
    labelled = pictures.labelled_grid(images, ["cat", "dog"], ["a", "b", "c"])
    corner = (labelled.width - sheet.width, labelled.height - sheet.height, labelled.width, labelled.height)
    assert (np.array(labelled.crop(corner)) == np.array(sheet)).all()
    assert corner[0] > 0
    assert corner[1] > 0


def test_each_row_has_its_own_name_beside_it() -> None:
    images = media(2, 1, 64, 64)
    canvas = np.array(pictures.labelled_grid(images, ["I", "WWW"], gap=0))
    left = canvas.shape[1] - 64
    ink = (canvas[:, :left] < 128).reshape(2, 64, left).sum(axis=(1, 2))
    assert 0 < ink[0] < ink[1]


@pytest.mark.parametrize("name", ["a very long class name that has no end " * 5, "Ångström Ж λ", "two\nlines", ""])
def test_any_class_name_can_be_written(name: str) -> None:
    labelled = pictures.labelled_grid(media(2, 1, 64, 64), [name, "x"], [name])
    assert labelled.width <= 64 + 200
    assert labelled.height < 2 * 64 + 40


@pytest.mark.parametrize(
    ("rows", "columns"), [(["a", "b", "c"], []), (["a"], ["b"]), ([], []), (list("abcdefg"), [])]
)
def test_labels_that_do_not_fit_the_number_of_pictures_are_refused(rows: list[str], columns: list[str]) -> None:
    with pytest.raises(InputError, match="4 pictures do not fill"):
        pictures.labelled_grid(media(4), rows, columns)


def story(n_frames: int = 5, n: int = 4, channels: int = 1) -> tuple[list[tuple[Media, Media]], list[float]]:
    frames = [(media(n, channels, 8, 8, seed=i), media(n, channels, 8, 8, seed=100 + i)) for i in range(n_frames)]
    return frames, [1 - (i + 1) / n_frames for i in range(n_frames)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_has_one_frame_a_step_and_shows_both_sheets(channels: int) -> None:
    frames, times = story(channels=channels)
    film = pictures.film(frames, times, columns=2, scale=2)
    assert len(film) == len(times)
    assert len({frame.size for frame in film}) == 1
    for picture, (x_t, x0) in zip(film, frames, strict=True):
        shown = np.array(picture)
        for side, media_ in ((shown[:, : shown.shape[1] // 2], x_t), (shown[:, shown.shape[1] // 2 :], x0)):
            assert contains(side, np.array(pictures.grid(media_, columns=2, scale=2)))


def contains(picture: Media, part: Media) -> bool:
    height, width = part.shape[:2]
    return any(
        np.array_equal(picture[top : top + height, left : left + width], part)
        for top in range(picture.shape[0] - height + 1)
        for left in range(picture.shape[1] - width + 1)
        if np.array_equal(picture[top, left], part[0, 0])
    )


def test_the_bar_grows_from_nothing_at_t_1_to_the_whole_width_at_t_0() -> None:
    x = np.zeros((1, 1, 8, 8), np.uint8)
    film = pictures.film([(x, x)] * 5, [1.0, 0.75, 0.5, 0.25, 0.0], scale=8)
    below = 8 * 8 + 13 + 2 * 10 + 10  # picture, head and distance
    filled = [int((np.array(frame)[below] == 40).sum()) for frame in film]
    width = film[0].width - 2 * 10
    assert filled[0] == 0
    assert filled[-1] == width
    assert np.allclose(np.diff(filled), width / 4, atol=1.5)


def test_films_that_make_no_sense_are_refused() -> None:
    frames, times = story()
    with pytest.raises(InputError, match="0 frames"):
        pictures.film([], [])
    with pytest.raises(InputError, match="5 frames, 4 times"):
        pictures.film(frames, times[:-1])
    with pytest.raises(InputError, match="one shape"):
        pictures.film([*frames[:-1], (frames[0][0], media(4, 1, 9, 9))], times)


def test_a_gif_keeps_frames_durations_and_loops_for_ever(tmp_path: Path) -> None:
    film = pictures.film(*story(6))
    path = pictures.save_gif(film, tmp_path / "deep" / "film.gif", duration_ms=70, hold_last_ms=1500)
    with Image.open(path) as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert gif.size == film[0].size
        assert gif.info["loop"] == 0
    assert durations == [70] * 5 + [1500]
    assert [p.name for p in path.parent.iterdir()] == ["film.gif"]


def decoded(data: bytes) -> list[npt.NDArray[np.int64]]:
    with Image.open(io.BytesIO(data)) as gif:
        return [np.array(frame.convert("RGB"), np.int64) for frame in ImageSequence.Iterator(gif)]


def test_a_film_of_few_colours_is_stored_without_loss() -> None:
    colours = np.array([[255, 0, 0], [0, 90, 200], [7, 7, 7], [7, 7, 6], [6, 7, 7]], np.uint8)
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(colours[rng.integers(0, 5, (12, 9))]) for _ in range(4)]
    for shown, frame in zip(decoded(pictures.gif_bytes(frames)), frames, strict=True):
        assert (shown == np.array(frame)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_of_noise_keeps_close_colours_and_the_ink_and_paper_exactly(channels: int) -> None:
    frames, times = story(8, 9, channels)
    smooth = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    ramp = np.stack([np.rot90(smooth, i) for i in range(channels)])[None].repeat(9, axis=0)
    film = pictures.film([*frames, (ramp, ramp)], [*times, 0.0])
    last = decoded(pictures.gif_bytes(film))[-1]
    true = np.array(film[-1].convert("RGB"), np.int64)
    error = np.abs(last - true)
    assert error.mean() < (3 if channels == 1 else 8)
    outside: npt.NDArray[np.bool_] = np.isin(true, [40, 255]).min(axis=-1)[
        -30:
    ]  # the bar, the letters' cores and the paper
    assert error[-30:][outside].max() == 0


def test_fewer_colours_make_a_smaller_file() -> None:
    film = pictures.film(*story(6, 9, 3))
    assert len(pictures.gif_bytes(film, colours=8)) < 0.8 * len(pictures.gif_bytes(film, colours=256))


def test_gifs_of_nothing_or_of_mixed_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="at least one frame"):
        pictures.gif_bytes([])
    with pytest.raises(InputError, match=r"\(3, 3\), \(4, 4\)"):
        pictures.gif_bytes([Image.new("L", (3, 3)), Image.new("L", (4, 4))])


def test_a_png_gives_back_every_pixel_and_a_data_uri_every_byte() -> None:
    sheet = pictures.grid(media(4, 3))
    data = pictures.png_bytes(sheet)
    with Image.open(io.BytesIO(data)) as again:
        assert (np.array(again) == np.array(sheet)).all()
    head, _, body = pictures.data_uri(data, "image/png").partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == data


def test_captions_stand_above_their_pictures_and_long_ones_are_shortened() -> None:
    images = np.stack([np.full((1, 4, 4), level, np.uint8) for level in (0, 60, 120, 180, 240)])
    sheet = np.asarray(pictures.captioned_grid(images, ["a", "b", "", "word " * 2000, "e"], columns=3))
    rows, columns = sheet.shape[0] // 2, (96, 98)
    for index, level in enumerate((0, 60, 120, 180, 240)):
        bottom, left = (index // 3 + 1) * rows, (index % 3) * columns[1]
        assert (sheet[bottom - 96 : bottom, left : left + 96] == level).all()
        above = sheet[bottom - rows : bottom - 96, left : left + 96]
        assert bool((above < 255).any()) == (index != 2)
    with pytest.raises(InputError, match="1 captions were given for 5 pictures"):
        pictures.captioned_grid(images, ["a"])
