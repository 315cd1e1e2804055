"""Which font writes what: and a machine without Chinese letters says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from matplotlib import font_manager

from carrara.evaluation import fonts


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    fonts._chinese.cache_clear()
    yield
    fonts._chinese.cache_clear()


def having(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A machine with these families, all of them in the file of matplotlib's own mono font."""
    place = fonts._dejavu().replace("DejaVuSans", "DejaVuSansMono")
    entries = [SimpleNamespace(name=name, fname=place) for name in names]
    monkeypatch.setattr(font_manager, "fontManager", SimpleNamespace(ttflist=entries))


def test_letters_find_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "Some Font", "SimHei")
    names = [fonts.font(text, 13).getname()[0] for text in ("red…", "Ж λ", "红心 heart")]
    assert names[1:] == ["DejaVu Sans", "DejaVu Sans Mono"] and "DejaVu" not in (names[0] or "")


def test_without_chinese_letters_boxes_are_drawn_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    having(monkeypatch, "Some Font")
    with caplog.at_level(logging.WARNING):
        assert [fonts.font("红心", 13).getname()[0] for _ in range(3)] == ["DejaVu Sans"] * 3
        fonts.font("Ж", 13)
    assert [record.getMessage()[:49] for record in caplog.records] == [
        "this machine has no font with Chinese letters, so"
    ]
