from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carrara import data
from carrara.data import folder as room
from carrara.errors import DataError, InputError

Paint = Any


@pytest.fixture
def zoo(paint: Paint) -> None:
    for number in range(40):
        paint(f"{'cat' if number % 2 else 'dog'}/{number}.png", seed=number)


def load(root: Path, **options: Any) -> data.Dataset:
    return data.load("folder", path=root, **{"size": 8, **options})


@pytest.mark.usefixtures("zoo")
def test_a_tree_becomes_classes_and_two_splits(root: Path) -> None:
    zoo = load(root)
    assert (zoo.name, zoo.classes, zoo.shape) == ("pictures", ("cat", "dog"), (3, 8, 8))
    assert len(zoo.train) + len(zoo.heldout) == 40
    assert np.bincount(np.concatenate([zoo.train.labels, zoo.heldout.labels])).tolist() == [20, 20]
    assert isinstance(zoo.train.media, np.memmap)
    assert zoo.train.captions is None


@pytest.mark.usefixtures("zoo")
def test_the_fingerprint_is_of_content_and_options_not_of_place_or_time(root: Path, tmp_path: Path) -> None:
    before = load(root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(root)
    assert load(tmp_path / "copy").fingerprint == before.fingerprint
    assert load(tmp_path / "copy", flip=True).fingerprint != before.fingerprint
    assert load(tmp_path / "copy", crop="squash").fingerprint != before.fingerprint


@pytest.mark.usefixtures("zoo")
def test_a_second_load_decodes_nothing_and_a_changed_file_is_seen(
    root: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(root).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(room, "decode", None)
        assert load(root).fingerprint == before
    state = (root / "cat" / "1.png").stat()
    paint("cat/1.png", seed=99)
    os.utime(root / "cat" / "1.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert load(root).fingerprint != before


@pytest.mark.usefixtures("zoo")
def test_two_processes_at_once_see_the_same(root: Path, cache: Path) -> None:
    code = f"from carrara import data; print(data.load('folder', path={str(root)!r}, size=8).fingerprint)"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    marks = {process.communicate()[0].strip() for process in both}
    assert marks == {load(root).fingerprint}
    assert len(list((cache / "datasets").iterdir())) == 1


def test_captions_follow_their_pictures_and_missing_ones_are_empty(root: Path, paint: Paint) -> None:
    for number in range(20):
        paint(f"é{number}.png", seed=number)
    rows = [f'{{"file_name": "é{number}.png", "text": "picture {number}"}}\n' for number in range(1, 20)]
    (root / "metadata.jsonl").write_text("".join(rows), encoding="utf-8")
    found = load(root)
    captions = [*(found.train.captions or ()), *(found.heldout.captions or ())]
    assert sorted(captions) == sorted(["", *(f"picture {number}" for number in range(1, 20))])
    media = np.concatenate([found.train.media, found.heldout.media])
    (root / "metadata.jsonl").unlink()
    plain = load(root)
    assert np.array_equal(media, np.concatenate([plain.train.media, plain.heldout.media]))
    assert found.notes == ("1 picture without a caption: é0.png",)
    assert plain.notes == ()


def test_pictures_without_captions_are_counted_and_the_first_named(root: Path, paint: Paint) -> None:
    for number in range(20):
        paint(f"{number:02d}.png", seed=number)
    rows = [f'{{"file_name": "{number:02d}.png", "text": "{" " * (number < 3)}"}}\n' for number in range(10)]
    rows += [f'{{"file_name": "{number:02d}.png", "text": "a cat"}}\n' for number in range(10, 18)]
    (root / "metadata.jsonl").write_text("".join(rows))
    assert load(root).notes == ("12 pictures without a caption: 00.png, 01.png, 02.png, 03.png, 04.png, …",)


def test_a_caption_that_changes_is_seen(root: Path, paint: Paint) -> None:
    marks: set[str] = set()
    for word in ("a cat", "a dog"):
        for name in ("1.png", "2.png"):
            paint(name)
        (root / "metadata.csv").write_text(f"file_name,text\n1.png,{word}\n")
        os.utime(root / "metadata.csv", ns=(0, len(marks)))
        marks.add(load(root).fingerprint)
    assert len(marks) == 2


def test_a_row_naming_no_picture_is_refused(root: Path, paint: Paint) -> None:
    paint("1.png")
    paint("2.png")
    (root / "metadata.csv").write_text("file_name,text\n3.png,a cat\n")
    with pytest.raises(DataError, match=r"metadata\.csv line 2 names 3\.png, which is not among the pictures"):
        load(root)


@pytest.mark.usefixtures("zoo")
def test_damaged_files_refuse_the_folder_unless_they_may_be_skipped(root: Path) -> None:
    whole = (root / "cat" / "3.png").read_bytes()
    (root / "cat" / "3.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "4.png").write_text("not a picture")
    with pytest.raises(DataError) as refusal:
        load(root)
    text = str(refusal.value)
    assert str(root / "cat" / "3.png") in text
    assert "2 files in all" in text
    assert "set skip_damaged: true" in text
    left = load(root, skip_damaged=True)
    assert len(left.train) + len(left.heldout) == 38
    assert left.notes == ("skipped 2 damaged files, the first cat/3.png",)


def test_a_folder_of_nothing_but_damaged_files_is_refused_all_the_same(root: Path) -> None:
    for name in ("1.png", "2.png"):
        (root / name).write_text("not a picture")
    with pytest.raises(DataError, match=r"none of the 2 pictures in .* can be decoded"):
        load(root, skip_damaged=True)


@pytest.mark.usefixtures("zoo")
def test_small_pictures_refuse_the_folder_unless_they_may_be_enlarged(root: Path) -> None:
    with pytest.raises(DataError) as refusal:
        load(root, size=22)
    text = str(refusal.value)
    assert f"{root / 'cat' / '1.png'} has 24 x 20 pixels, fewer than the 22 asked; 40 files in all" in text
    assert "Give a smaller size, remove such pictures, or set upscale: true" in text
    assert load(root, size=22, upscale=True).shape == (3, 22, 22)


def test_the_notes_tell_of_animations_and_of_what_was_ignored(root: Path, paint: Paint) -> None:
    paint("1.png")
    paint("2.gif", save_all=True, append_images=[Image.new("RGB", (24, 20))])
    (root / "list.txt").touch()
    assert load(root).summary()["notes"] == [
        "1 animated or multi-page picture: first frame used",
        "ignored what is no picture: 1 .txt",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "pictures of size 0 cannot be had"),
        ({"channels": 4}, "channels: 4 is not allowed: give 1 for grey or 3 for colour"),
        ({"crop": "random"}, "crop: 'random' is not allowed: give center"),
        ({"heldout": 0.0}, "heldout: 0.0 is no share"),
        ({"heldout": 1.0}, "heldout: 1.0 is no share"),
        ({"heldout": float("nan")}, "heldout: nan is no share"),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_an_option_out_of_range_is_refused(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refusal:
        load(root, **options)
    assert words in str(refusal.value)


@pytest.mark.usefixtures("zoo")
def test_grey_has_one_channel(root: Path) -> None:
    assert load(root, channels=1).shape == (1, 8, 8)


@pytest.mark.usefixtures("zoo")
def test_long_work_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(room, "_BLOCK", 16)
    monkeypatch.setattr(room, "_REPORT_EVERY_S", -1.0)
    with caplog.at_level(logging.INFO, logger="carrara"):
        load(root)
    assert [record.getMessage() for record in caplog.records] == [
        f"decoding pictures: {done} of 40" for done in (0, 16, 32)
    ]
