"""Texts on a page: as they are, and never as markup or as commands to a terminal; the film's data and its one script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import pytest

from carrara.errors import InputError
from carrara.evaluation.report import Report, Row, Section, render
from carrara.evaluation.writing import Film, Texts, listing, visible

EVIL = '</pre><script>alert("x")</script>\x1b[31m\u202e\r'


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert visible("a\tb\n\x1b[0m\x00\x7f\x9b\r\u202e\u2066什") == "a\tb\n␛[0m␀␡\ufffd␍\ufffd\ufffd什"
    assert listing(["a", "b\n"], ["one", "two"]) == "one\na\n\ntwo\nb\n\n"


def test_a_film_allows_its_own_script_and_no_other() -> None:
    film = Film([(1.0, [EVIL], [EVIL]), (0.0, ["b"], ["c"])], [EVIL])
    page = render(Report("T", sections=[Section("S", blocks=[Row([film]), film, Texts([EVIL], [EVIL])])]))
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in page
    assert "alert" not in script and "\x1b" not in page and page.count("<script") == 1
    assert "script-src" not in render(Report("T", sections=[Section("S", blocks=[Texts([EVIL], ["x"])])]))


def test_a_films_data_holds_each_text_once() -> None:
    film = Film(
        [(1.0, ["▁▁", "▁▁"], ["ab", "cb"]), (0.5, ["a▁", "▁▁"], ["ab", "cb"]), (0.0, ["ab", "cb"], ["ab", "cb"])],
        "12",
    )
    page = render(Report("T", lead=[film]))
    (found,) = re.findall(r'data-film="(.*?)"', page)
    data = json.loads(html.unescape(found))
    assert data["times"] == [1.0, 0.5, 0.0] and sorted(data["texts"]) == sorted({"▁▁", "a▁", "ab", "cb"})
    assert [[[data["texts"][at] for at in side] for side in step] for step in data["steps"]] == [
        [list(x), list(x0)] for _, x, x0 in film.frames
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 100])
def test_of_many_steps_some_are_shown_the_first_and_the_last_among_them(count: int) -> None:
    film = Film([(1 - k / 100, [str(k)], ["x"]) for k in range(count)], ["a"], most=5)
    shown = [int(x[0]) for _, x, _ in film.shown]
    assert shown[0] == 0 and shown[-1] == count - 1 and len(shown) == min(5, count) and shown == sorted(set(shown))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 texts were given and 1 heads"):
        Texts(["a", "b"], ["one"])
    with pytest.raises(InputError, match="1 texts were given and 0 heads"):
        Film([(1.0, ["a"], ["b"])], [])
    with pytest.raises(InputError, match="at least one step"):
        Film([], ["a"])
