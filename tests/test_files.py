"""Files are whole or not there, whenever the writing stops."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from carrara import files
from carrara.errors import DamagedFile, InputError, NoRoom

OPERATIONS = ["mkdir", "replace", "rename", "fsync", "unlink", "rmdir", "open"]


class Killed(BaseException):
    """The process has ended."""


@contextmanager
def killed_at(number: int) -> Iterator[list[str]]:
    """Within, operation `number` on the disk and all later ones do not happen any more; tells the ones that did."""
    done: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, _counted(name, getattr(os, name), number, done))
        yield done


def _counted(name: str, operation: Callable[..., Any], number: int, done: list[str]) -> Callable[..., Any]:
    def counted(*given: Any, **options: Any) -> Any:
        if len(done) >= number:
            raise Killed
        done.append(name)
        return operation(*given, **options)

    return counted


def fill(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "one.txt").write_text(text)
        (folder / "two.txt").write_text(text * 2)

    return write


def content(folder: Path) -> str:
    files.check_folder(folder)
    text = (folder / "one.txt").read_text()
    assert (folder / "two.txt").read_text() == text * 2
    return text


@pytest.mark.parametrize("begun", ["", "old"])
def test_a_folder_whose_writing_is_killed_anywhere_is_old_or_new_or_absent(tmp_path: Path, begun: str) -> None:
    found = set()
    for number in range(1000):
        path = tmp_path / str(number) / "folder"
        if begun:
            files.write_folder(path, fill(begun))
        finished = True
        with killed_at(number) as done:
            try:
                files.write_folder(path, fill("new"))
            except Killed:
                finished = False
        there = files.present(path)
        found.add(content(there) if there.exists() else "")
        files.write_folder(path, fill("next"))
        assert content(path) == "next"
        assert [p.name for p in path.parent.iterdir()] == ["folder"], f"left over after {done}"
        if finished:
            break
    assert finished and number > 8
    assert found == {begun, "new"}


def test_a_folder_killed_twice_is_still_there(tmp_path: Path) -> None:
    """Between the two renames of a replacement, and then in the next one."""
    for number in range(1000):
        path = tmp_path / str(number) / "folder"
        files.write_folder(path, fill("old"))
        path.replace(path.with_name(".folder.old"))
        assert content(files.present(path)) == "old"
        with killed_at(number) as done, pytest.MonkeyPatch.context():
            try:
                files.write_folder(path, fill("new"))
            except Killed:
                assert content(files.present(path)) in ("old", "new"), done
                continue
        break
    assert content(path) == "new" and number > 8


def test_everything_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = files.flush, Path.replace
    monkeypatch.setattr(files, "flush", lambda path: done.append(path.name) or flush(path))
    monkeypatch.setattr(Path, "replace", lambda path, to: done.append(f"to {to.name}") or replace(path, to))
    files.write_folder(tmp_path / "folder", fill("new"))
    before, after = done[: done.index("to folder")], done[done.index("to folder") :]
    assert {"one.txt", "two.txt", "to manifest.json", ".folder.staging"} <= set(before)
    assert max(map(before.index, ("one.txt", "two.txt", "to manifest.json"))) < len(before) - 1
    assert before[-1] == ".folder.staging" and after == ["to folder", tmp_path.name]


def test_files_in_folders_inside_are_hashed_too(tmp_path: Path) -> None:
    def nested(folder: Path) -> None:
        (folder / "inside").mkdir()
        (folder / "inside" / "one.txt").write_text("one")

    files.write_folder(tmp_path / "folder", nested)
    files.check_folder(tmp_path / "folder")
    (tmp_path / "folder" / "inside" / "one.txt").write_text("another")
    with pytest.raises(DamagedFile, match=r"inside/one\.txt is damaged"):
        files.check_folder(tmp_path / "folder")


def test_a_fill_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "folder", fill("old"))

    def fails(folder: Path) -> None:
        (folder / "one.txt").write_text("new")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        files.write_folder(tmp_path / "folder", fails)
    assert content(tmp_path / "folder") == "old"


def test_present_is_the_path_itself_but_in_that_moment(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    assert files.present(path) == path
    (tmp_path / ".folder.old").mkdir()
    assert files.present(path) == tmp_path / ".folder.old"
    path.mkdir()
    assert files.present(path) == path


@pytest.mark.parametrize("begun", ["", "old"])
def test_a_file_whose_writing_is_killed_anywhere_is_old_or_new_or_absent(tmp_path: Path, begun: str) -> None:
    path, finished, number = tmp_path / "file", False, 0
    while not finished:
        path.unlink(missing_ok=True)
        if begun:
            path.write_text(begun)
        with killed_at(number):
            try:
                files.write(path, "new" * 1000)
                finished = True
            except Killed:
                number += 1
        assert (path.read_text() if path.exists() else "") in (begun, "new" * 1000)
    assert number >= 4 and path.read_text() == "new" * 1000


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_no_half_file_and_no_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (tmp_path / "file").write_text("old")

    def full(self: Path, *given: Any) -> None:
        if step == "write_bytes":
            self.write_text("ha")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, step, full)
    with pytest.raises(OSError, match="no space left"):
        files.write(tmp_path / "file", "new")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_threads_that_write_the_same_path_do_not_collide(tmp_path: Path) -> None:
    path, wrong = tmp_path / "file", []
    texts = {name * 50_000 for name in "abcd"}

    def work(text: str) -> None:
        try:
            for _ in range(15):
                files.write(path, text)
                if path.read_text() not in texts:
                    wrong.append("half a file")
        except OSError as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and [found.name for found in tmp_path.iterdir()] == ["file"]


def test_json_is_written_readably_and_read_back(tmp_path: Path) -> None:
    value = {"word": "naïve ×", "numbers": [1, 0.1 + 0.2, None]}
    files.write_json(tmp_path / "file", value)
    assert files.read_json(tmp_path / "file") == value
    assert "naïve ×" in (tmp_path / "file").read_text()


@pytest.mark.parametrize("damage", [b"", b'{"a": 1', b"\xff\xfe"])
def test_json_that_is_none_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "file").write_bytes(damage)
    with pytest.raises(DamagedFile, match=r"file is not readable as JSON .* damaged"):
        files.read_json(tmp_path / "file")


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"sha256": []}'])
def test_a_manifest_without_hashes_is_damaged(tmp_path: Path, manifest: str) -> None:
    files.write_folder(tmp_path / "folder", fill("x"))
    (tmp_path / "folder" / "manifest.json").write_text(manifest)
    with pytest.raises(DamagedFile, match=r"manifest\.json is damaged: it holds no hashes"):
        files.check_folder(tmp_path / "folder")


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with files.locked(tmp_path):
        with pytest.raises(InputError, match="in use by another carrara process"), files.locked(tmp_path):
            pass
        with pytest.raises(InputError, match="in use"), files.locked(tmp_path):
            pass
    with files.locked(tmp_path):
        pass


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert files.writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from carrara import files
path, name = Path(sys.argv[1]), sys.argv[2]
for turn in range(25):
    files.write_folder(path, lambda staging: [(staging / f"{k}").write_text(name) for k in range(4)])
    with files.in_turn(path.parent):
        files.check_folder(files.present(path))
        assert len({(files.present(path) / f"{k}").read_text() for k in range(4)}) == 1
"""


def test_processes_that_write_the_same_folder_take_turns(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "made")]
    running = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    assert [each.communicate()[1] for each in running] == [""] * 3
    files.check_folder(tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_copy_of_a_folder_is_whole(tmp_path: Path) -> None:
    def fill(staging: Path) -> None:
        (staging / "inner").mkdir()
        (staging / "inner" / files.MANIFEST).write_text("mine")
        (staging / "file").write_text("content")

    files.write_folder(tmp_path / "one", fill)
    files.copy_folder(tmp_path / "one", tmp_path / "deep" / "other")
    files.check_folder(tmp_path / "deep" / "other")
    assert (tmp_path / "deep" / "other" / "inner" / files.MANIFEST).read_text() == "mine"


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch, at: int, number: int = errno.ENOSPC) -> Iterator[None]:
    """Within, the disk is full when the `at`-th file is flushed to it."""
    left = iter(range(at, -1, -1))
    flush = files.flush

    def filled(path: Path) -> None:
        if next(left) == 0:
            raise OSError(number, os.strerror(number))
        flush(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "flush", filled)
        yield


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_full_disk_is_named_and_what_was_there_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    files.write_folder(tmp_path / "made", lambda staging: bool((staging / "file").write_text("old")) and None)
    with (
        full(monkeypatch, at),
        pytest.raises(NoRoom, match=r"made\S* cannot be written, for its disk is full\. Free some"),
    ):
        files.write_folder(tmp_path / "made", lambda staging: bool((staging / "file").write_text("new")) and None)
    assert [path.name for path in tmp_path.iterdir()] == ["made"] and (
        tmp_path / "made" / "file"
    ).read_text() == "old"
    files.check_folder(tmp_path / "made")


def test_other_errors_of_the_disk_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with full(monkeypatch, 0, errno.EDQUOT), pytest.raises(NoRoom, match="file cannot be written"):
        files.write(tmp_path / "file", "new")
    with full(monkeypatch, 0, errno.EIO), pytest.raises(OSError, match="Input/output error"):
        files.write(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == []
