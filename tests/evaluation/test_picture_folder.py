"""A folder as a set: its pictures pixel for pixel, at one size, and nothing passed over in silence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pooled import Pooled

from carrara.errors import DataError, InputError
from carrara.evaluation import folder as room
from carrara.evaluation.folder import PictureFolder, picture_folder
from carrara.evaluation.streaming import features_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    return place


def pixels(seed: int, height: int = 9, width: int = 7, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def paint(root: Path, name: str, seed: int, height: int = 9, width: int = 7, channels: int = 3) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels(seed, height, width, channels)).save(root / name)


def spoil(root: Path, count: int) -> None:
    for number in range(count):
        (root / f"torn{number}.png").write_bytes(b"no picture")


def test_its_pictures_are_their_pixels_in_the_order_of_their_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BLOCK", 4)
    for number in range(30):
        paint(root, f"{'a' if number % 2 else 'b'}/{number:02}.png", number)
    (root / "notes.txt").write_text("no picture")
    found = picture_folder(root)
    assert len(found) == 30 and found.shape == (3, 9, 7) and found.skipped == ()
    order = [*range(1, 30, 2), *range(0, 30, 2)]
    expected = torch.from_numpy(np.stack([pixels(number) for number in order])).permute(0, 3, 1, 2)
    assert torch.equal(found[0:30], expected) and torch.equal(found[7:19], expected[7:19])
    assert found[30:30].shape == (0, 3, 9, 7)


def test_it_is_streamed_as_its_pictures_are(root: Path) -> None:
    for number in range(20):
        paint(root, f"{number:02}.png", number)
    found = picture_folder(root)
    assert torch.equal(features_of(found, Pooled()), Pooled()(found[0:20]))


def test_transparency_is_shown_on_white(root: Path) -> None:
    for number in range(2):
        clear = pixels(number, channels=4)
        clear[..., 3] = 0
        Image.fromarray(clear).save(root / f"{number}.png")
    assert (picture_folder(root)[0:2] == 255).all()


def test_grey_can_be_read_as_one_channel_or_three(root: Path) -> None:
    grey = pixels(1)[..., 0]
    Image.fromarray(grey).save(root / "grey.png")
    one, three = picture_folder(root, channels=1), picture_folder(root)
    assert torch.equal(one[0:1], torch.from_numpy(grey)[None, None]) and one.shape == (1, 9, 7)
    assert torch.equal(three[0:1], one[0:1].expand(-1, 3, -1, -1))


def test_sixteen_bits_are_scaled_and_what_lies_on_its_side_is_set_upright(root: Path) -> None:
    grey = np.array([[0, 257], [32896, 65535], [256 * 77, 257 * 5]], np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(root / "grey.png", exif=exif)
    expected = np.rot90(np.rint(grey / 257).astype(np.uint8), -1)
    found = picture_folder(root, channels=1)
    assert found.shape == (1, 2, 3) and (found[0:1][0, 0].numpy() == expected).all()


def test_mixed_sizes_are_named_and_refused_unless_a_size_is_given(root: Path) -> None:
    for number in range(8):
        paint(root, f"{number}.png", number)
    paint(root, "wide.png", 8, 9, 30)
    paint(root, "tall.png", 9, 30, 7)
    with pytest.raises(
        DataError, match=r"3 different sizes: 8 of 7 x 9 \(such as 0\.png\), .*7 x 30.*tall\.png.* size"
    ):
        picture_folder(root)
    for crop in ("center", "squash"):
        found = picture_folder(root, size=5, crop=crop)
        assert len(found) == 10 and found[0:10].shape == (10, 3, 5, 5)
    with pytest.raises(DataError, match=r"10 of 10 pictures .* smaller than 20 x 20: 0\.png \(7 x 9\).*upscaling"):
        picture_folder(root, size=20)
    assert picture_folder(root, size=20, upscale=True).shape == (3, 20, 20)


def test_a_square_picture_of_the_size_asked_is_left_as_it_is(root: Path) -> None:
    paint(root, "a.png", 1, 16, 16)
    assert torch.equal(picture_folder(root, size=16)[0:1], picture_folder(root)[0:1])


def test_few_unreadable_files_are_named_and_passed_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(150):
        paint(root, f"{number:03}.png", number)
    spoil(root, 1)
    with caplog.at_level(logging.WARNING):
        found = picture_folder(root)
    assert len(found) == 150 and found.skipped == ("torn0.png",)
    assert "1 of 151 files" in caplog.text and "torn0.png (" in caplog.text
    spoil(root, 2)
    with pytest.raises(DataError, match=r"2 of 152 files .* torn0\.png \(.*\), torn1\.png\. At most 0\.01"):
        picture_folder(root)
    assert len(picture_folder(root, unreadable=0.05)) == 150
    (root / "torn1.png").unlink()
    with pytest.raises(DataError, match="1 of 151 files"):
        picture_folder(root, unreadable=0)


def test_a_picture_cut_short_is_unreadable(root: Path) -> None:
    paint(root, "a.png", 1, 64, 64)
    content = (root / "a.png").read_bytes()
    (root / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"1 of 2 files .* b\.png \("):
        picture_folder(root)


def test_many_unreadable_files_are_counted_and_few_named(root: Path) -> None:
    spoil(root, 30)
    with pytest.raises(DataError, match="30 of 30 files") as raised:
        picture_folder(root, unreadable=0.99)
    assert all(f", torn{number}.png" in str(raised.value) for number in (1, 10, 11, 12)) and "…" in str(raised.value)
    assert "torn13" not in str(raised.value)


def test_a_file_that_changes_meanwhile_is_named(root: Path) -> None:
    for number in range(3):
        paint(root, f"{number}.png", number)
    found: PictureFolder = picture_folder(root)
    paint(root, "1.png", 1, 4, 4)
    with pytest.raises(DataError, match=r"1\.png has changed"):
        found[0:3]
    (root / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png has changed"):
        found[1:2]


def test_progress_counts_files(root: Path) -> None:
    for number in range(3):
        paint(root, f"{number}.png", number)
    calls: list[tuple[int, int]] = []
    picture_folder(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "size 0"),
        ({"channels": 4}, "channels 4"),
        ({"crop": "left"}, "crop 'left'"),
        ({"unreadable": 1.5}, "share of 1.5"),
    ],
)
def test_other_options_are_refused(root: Path, options: dict[str, Any], sentence: str) -> None:
    paint(root, "a.png", 1)
    with pytest.raises(InputError, match=sentence):
        picture_folder(root, **options)


def test_an_empty_or_absent_folder_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        picture_folder(root)
    with pytest.raises(DataError, match="does not exist"):
        picture_folder(root / "nowhere")
