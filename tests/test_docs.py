"""What the documents promise: links lead somewhere, the README's commands and code run, versions agree."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_changelog_s_newest_release_is_this_version() -> None:
    newest = re.search(r"^## (\S+) \(\d", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == carrara.__version__


def shortened(words: list[str]) -> list[str]:
    """The same command on a tiny model: fewer images, few samples."""
    if words[0] == "train":
        at = words.index("--minutes")
        words[at : at + 2] = ["--images", "256"]
        small = {"verse": ["network.width=64", "network.depth=1", "codec.length=32", "sampling.steps=4"]}
        changes = [*small.get(words[1], ["network.width=8"]), "training.batch=32", "training.previews=1"]
        words += [word for change in changes for word in ("--set", change)]
    elif "-n" in words:
        words[words.index("-n") + 1] = "20"
    return words


def test_commands_and_code_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the README's order, in one folder; `make` and fashion, which have their own tests, left out."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("carrara ")]
    assert any(line.startswith("carrara train digits") for line in lines)
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if "fashion" not in line:
            assert main(shortened(words)) == 0, line
    assert blocks("python")
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})


def test_the_page_of_texts_says_what_its_code_gives() -> None:
    page = (ROOT / "docs" / "texts.md").read_text()
    (code,) = blocks("python", page)
    found: dict[str, Any] = {}
    exec(compile(code, "texts.md", "exec"), found)
    shown = (found["train"].shape, found["heldout"].shape, found["codec"].sizes(found["heldout"]))
    assert all(str(value) in code for value in shown)
    counts = found["verse"].summary()["counts"]
    assert f"{counts['train']:,}, {counts['heldout']:,}" in page


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"
