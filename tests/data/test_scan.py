from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from carrara.data.scan import labelled, scan, sides
from carrara.errors import DataError

Paint = Any
names = st.lists(st.text(min_size=1), min_size=2, max_size=30, unique=True)
shares = st.floats(0.001, 0.999)


@given(names, shares)
def test_both_sides_have_a_picture(files: list[str], heldout: float) -> None:
    assert set(sides(files, heldout)) == {True, False}


@given(names, names, shares)
def test_adding_files_moves_at_most_the_one_that_filled_an_empty_side(
    files: list[str], more: list[str], heldout: float
) -> None:
    assume(not set(files) & set(more))
    before, after = sides(files, heldout), sides(files + more, heldout)
    assert sum(old != new for old, new in zip(before, after, strict=False)) <= 1


def test_adding_files_to_a_folder_of_some_size_moves_none() -> None:
    files = [f"{number}.png" for number in range(500)]
    assert sides(files, 0.1)[:200] == sides(files[:200], 0.1)


@pytest.mark.parametrize("heldout", [0.05, 0.1, 0.5])
def test_the_share_held_out_is_the_share_asked(heldout: float) -> None:
    share = sum(sides([f"{number}.png" for number in range(20000)], heldout)) / 20000
    # Five standard deviations of a binomial share.
    assert abs(share - heldout) < 5 * (heldout * (1 - heldout) / 20000) ** 0.5


def test_a_composed_and_a_decomposed_name_fall_on_the_same_side(root: Path) -> None:
    found = []
    for form in ("NFC", "NFD"):
        folder = root / form
        folder.mkdir()
        for name in ("é.png", "ü.png", "日本.png"):
            (folder / unicodedata.normalize(form, name)).touch()
        found.append([file.name for file in scan(folder).files])
    assert found[0] == found[1] == ["é.png", "ü.png", "日本.png"]


def test_hidden_files_are_passed_over_and_others_counted(root: Path, paint: Paint) -> None:
    for name in ("a.PNG", "b.JpEg", ".hidden.png", ".folder/c.png", "sub/.d.png"):
        paint(name)
    for name in ("notes.txt", "more.txt", "photo.HEIC", "README", "metadata.csv"):
        (root / name).touch()
    found = scan(root)
    assert [file.name for file in found.files] == ["a.PNG", "b.JpEg"]
    assert found.ignored == {".txt": 2, ".heic": 1, "README": 1}


def test_links_are_followed_but_never_in_circles(root: Path, paint: Paint, tmp_path: Path) -> None:
    paint("cats/a.png")
    elsewhere = tmp_path / "dogs"
    elsewhere.mkdir()
    (elsewhere / "b.png").write_bytes((root / "cats" / "a.png").read_bytes())
    (root / "dogs").symlink_to(elsewhere)
    (root / "cats" / "loop").symlink_to(root)
    assert [file.name for file in scan(root).files] == ["cats/a.png", "dogs/b.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_on_and_a_broken_link_is_kept_to_be_named(root: Path, paint: Paint) -> None:
    paint("a.png")
    os.mkfifo(root / "pipe.png")
    (root / "broken.png").symlink_to(root / "gone.png")
    assert [file.name for file in scan(root).files] == ["a.png", "broken.png"]


def test_top_folders_are_the_classes(paint: Paint, root: Path) -> None:
    for name in ("dog/x/1.png", "cat/1.png", "dog/2.png"):
        paint(name)
    assert labelled(scan(root)) == (("cat", "dog"), [0, 1, 1])


def test_no_subfolders_no_classes(paint: Paint, root: Path) -> None:
    paint("1.png")
    paint("2.png")
    assert labelled(scan(root)) == ((), [0, 0])


def test_a_missing_folder_and_a_file_are_refused(root: Path, paint: Paint) -> None:
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist\. Give `path:` a folder"):
        scan(root / "nowhere")
    with pytest.raises(DataError, match=r"a\.png is a file, not a folder"):
        scan(paint("a.png"))


def test_an_empty_folder_is_refused_with_what_was_looked_for(root: Path) -> None:
    with pytest.raises(DataError, match=r"pictures holds no picture\. Pictures end in: \.apng .*\.webp"):
        scan(root)
    (root / "a.heic").touch()
    with pytest.raises(DataError, match=r"no picture \(what is there: 1 \.heic\)"):
        scan(root)


def test_one_picture_is_too_few(paint: Paint, root: Path) -> None:
    paint("only.png")
    with pytest.raises(DataError, match=r"holds one picture; two are the least"):
        scan(root)


def test_pictures_beside_class_folders_are_refused(paint: Paint, root: Path) -> None:
    paint("cat/1.png")
    paint("loose.png")
    with pytest.raises(DataError, match=r"such as loose\.png, 1 in all\) beside its class folders cat\. Move them"):
        labelled(scan(root))


def test_folders_named_like_splits_are_not_taken_for_classes(paint: Paint, root: Path) -> None:
    paint("test/cat/1.png")
    paint("train/cat/1.png")
    with pytest.raises(DataError, match=r"named like splits \(test, train\).*Give `path: .*train`"):
        labelled(scan(root))
    paint("plane/1.png")
    assert labelled(scan(root))[0] == ("plane", "test", "train")
