"""Where something was made: always told, never in the way."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from carrara import __version__, about


def test_the_surroundings_are_plain_and_complete() -> None:
    told = about.surroundings()
    assert json.loads(json.dumps(told)) == told
    assert told["carrara"] == __version__ and told["cores"] >= 1 and told["threads"] >= 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", told["date"])
    assert told["processor"]


@pytest.mark.parametrize("fault", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_no_git_is_no_commit(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def run(*given: Any, **options: Any) -> None:
        raise fault

    monkeypatch.setattr(subprocess, "run", run)
    assert about.commit() is None


def test_the_commit_is_the_package_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed inside a checkout of another project it has none; with changes it has a +."""
    here = tmp_path / "package" / "about.py"
    here.parent.mkdir()
    here.write_text("one")
    monkeypatch.setattr(about, "__file__", str(here))

    def git(*words: str) -> None:
        user = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *user, *words], check=True, capture_output=True)

    assert about.commit() is None
    git("init")
    git("commit", "--allow-empty", "-m", "other")
    assert about.commit() is None
    git("add", ".")
    git("commit", "-m", "own")
    assert re.fullmatch("[0-9a-f]{12}", about.commit() or "")
    here.write_text("two")
    assert re.fullmatch(r"[0-9a-f]{12}\+", about.commit() or "")
