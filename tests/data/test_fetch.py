from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from carrara.data import fashion, fetch, gloss

FILES = " ".join(f"{name}.gz" for pair in fashion._FILES for name in pair)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """machine(...) stands in for a Debian system: two small scripts that note how they are called."""
    tools = tmp_path / "bin"
    system = tmp_path / "usr" / "fashion-mnist"
    monkeypatch.setattr(fashion, "SYSTEM", system)
    monkeypatch.setattr(fetch, "PACKAGED", (fashion,))

    def set_up(apt: str = "touch dataset-fashion-mnist_1_all.deb", files: str = FILES, root: bool = True) -> Path:
        tools.mkdir()
        log = tmp_path / "log"
        log.touch()
        tree = f"$3{system}"
        scripts = {
            "apt-get": f"echo apt-get $1 >> {log}\n{apt}\n",
            "dpkg-deb": f"echo dpkg-deb $1 >> {log}\nmkdir -p {tree}\nfor f in {files}; do touch {tree}/$f; done\n",
        }
        for name, script in scripts.items():
            (tools / name).write_text("#!/bin/sh\n" + script)
            (tools / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        monkeypatch.setattr(fetch, "_is_root", lambda: root)
        return log

    return set_up


def test_the_files_are_fetched_once(machine: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    log = machine()
    assert fetch.main() == 0
    assert fashion.installed() == fashion.fetched()
    assert str(fashion.fetched()) in capsys.readouterr().out
    assert [path.name for path in fashion.fetched().parent.iterdir()] == ["fashion-mnist"]
    assert fetch.main() == 0
    assert log.read_text().splitlines() == ["apt-get download", "dpkg-deb -x"]


def test_what_the_system_has_is_not_fetched(machine: Callable[..., Path]) -> None:
    log = machine()
    fashion.SYSTEM.mkdir(parents=True)
    for name in FILES.split():
        (fashion.SYSTEM / name).touch()
    assert fetch.main() == 0
    assert log.read_text() == ""


# An apt-get that knows no package until it was called with `update`.
FRESH = """
[ "$1" = update ] && exec touch "{flag}"
[ -e "{flag}" ] || { echo "E: Unable to locate package" >&2; exit 100; }
touch dataset-fashion-mnist_1_all.deb
"""


def test_package_lists_that_were_never_read_are_read(machine: Callable[..., Path], tmp_path: Path) -> None:
    log = machine(FRESH.replace("{flag}", str(tmp_path / "updated")))
    assert fetch.main() == 0
    assert log.read_text().splitlines() == ["apt-get download", "apt-get update", "apt-get download", "dpkg-deb -x"]


def test_without_root_it_says_what_root_should_do(
    machine: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(FRESH.replace("{flag}", str(tmp_path / "updated")), root=False)
    assert fetch.main() == 1
    told = capsys.readouterr().err
    assert "E: Unable to locate package" in told
    assert "run `apt-get update` as root once" in told
    assert fashion.installed() is None


def test_a_package_without_the_files_is_not_installed(
    machine: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(files="README")
    assert fetch.main() == 1
    assert "no longer holds" in capsys.readouterr().err
    assert list(fashion.fetched().parent.iterdir()) == []


def test_without_apt_it_says_what_else_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion, "SYSTEM", tmp_path / "usr")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch.main() == 1
    told = capsys.readouterr().err
    assert "apt-get and dpkg-deb not found" in told
    assert "`path:`" in told


def test_of_several_packages_one_that_fails_does_not_keep_the_others_away(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine()
    monkeypatch.setattr(gloss, "SYSTEM", tmp_path / "wordnet")
    monkeypatch.setattr(fetch, "PACKAGED", (gloss, fashion))
    assert fetch.main() == 1
    told = capsys.readouterr()
    assert "wordnet-base" in told.err and "dataset-fashion-mnist" in told.out
    assert fashion.installed() == fashion.fetched() and gloss.installed() is None


def test_half_fetched_files_are_replaced(machine: Callable[..., Path]) -> None:
    machine()
    fashion.fetched().mkdir(parents=True)
    (fashion.fetched() / FILES.split()[0]).touch()
    assert fetch.main() == 0
    assert fashion.installed() == fashion.fetched()
