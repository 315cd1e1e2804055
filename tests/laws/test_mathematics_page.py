"""docs/mathematics.md itself: what it names exists, and its formulas survive every Markdown renderer."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "mathematics.md").read_text()
LINKS = re.findall(r"\[`([\w.]+)`\]\(\.\./([\w/.]+\.py)\)", PAGE)
CODE = sorted({link for link in LINKS if link[1].startswith("src/")})
TESTS = sorted({link for link in LINKS if link[1].startswith("tests/")})
DISPLAYED = re.findall(r"^\$\$\n(.*?)\n\$\$$", PAGE, flags=re.DOTALL | re.MULTILINE)
TEXT = re.sub(r"^\$\$\n.*?\n\$\$$|```.*?```|`[^`]*`", "", PAGE, flags=re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"\$([^$\n]+)\$", TEXT)


@pytest.mark.parametrize(("name", "file"), CODE)
def test_linked_code_exists(name: str, file: str) -> None:
    """Each name is found in the very module that its link leads to."""
    module = importlib.import_module(file.removeprefix("src/").removesuffix(".py").replace("/", "."))
    found: object = module
    for part in name.split("."):
        found = getattr(found, part)
    assert getattr(found, "__module__", module.__name__) == module.__name__


def test_linked_tests_exist() -> None:
    missing = [name for name, file in TESTS if f"def {name}(" not in (ROOT / file).read_text()]
    assert not missing
    assert len(TESTS) > 40


def test_every_law_of_the_page_is_named_on_it() -> None:
    named = {name for name, _ in TESTS}
    for file in (ROOT / "tests" / "laws").glob("test_mathematics_*.py"):
        if file != Path(__file__):
            assert set(re.findall(r"^def (test_\w+)", file.read_text(), flags=re.MULTILINE)) <= named, file.name


def test_links_within_the_page_lead_to_its_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_every_dollar_is_half_of_a_pair() -> None:
    """Inline mathematics stays on its line and begins and ends beside a space or a stop, as GitHub asks."""
    assert "$" not in re.sub(r"(?<![^\s(])\$(?! )[^$\n]+(?<! )\$(?![^\s).,;:?])", "", TEXT)
    assert len(DISPLAYED) > 40
    assert len(INLINE) > 100


def test_no_formula_can_be_taken_for_markdown() -> None:
    r"""Markdown may read before mathematics does: it would eat \, \{ \| \\, take *, _ after a stop, | or ]( for its own, and make a
    list of lines that begin with + or −."""
    for formula in DISPLAYED + INLINE:
        assert not re.search(r"\\[^A-Za-z]|[*<>~|]|\]\(|(?<![A-Za-z0-9])_|^[+-] ", formula, flags=re.MULTILINE), (
            formula
        )
        assert formula.count("{") == formula.count("}"), formula
        assert len(re.findall(r"\\left\b", formula)) == len(re.findall(r"\\right\b", formula)), formula
    assert not any("\n\n" in formula for formula in DISPLAYED)
