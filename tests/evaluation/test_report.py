"""A report is one safe page that needs nothing else."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import carrara
from carrara.errors import InputError
from carrara.evaluation import charts, pictures, report
from carrara.evaluation.report import (
    Block,
    Chart,
    Code,
    Figure,
    Figures,
    KeyValues,
    Picture,
    Report,
    Row,
    Section,
    Table,
    Text,
)

EVIL = '<script>alert("x")</script>'
PNG = pictures.png_bytes(Image.new("L", (7, 5), 128))
GIF = pictures.gif_bytes([Image.new("L", (9, 4), level) for level in (0, 200)])
SVG = charts.line_chart({EVIL: ([0, 1], [1, 2]), "b": ([0], [1])}, EVIL, EVIL, EVIL)
VOID = {"meta", "link", "img", "br", "hr", "source"}


class Page(HTMLParser):
    """What is in a page: its elements with their attributes, its text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page(*blocks: Block) -> Page:
    return Page(report.render(Report("T", sections=[Section("S", blocks=blocks)])))


def everything(word: str = EVIL) -> Report:
    blocks: list[Block] = [
        Row([Picture(PNG, word, word), Picture(GIF, word, word, still=PNG)]),
        Chart(SVG, word),
        Table([word, "n"], [[word, 1], [word, None]], word),
        KeyValues([(word, word)]),
        Text(f"{word}\n\n{word}"),
        Code(word),
        Code(word, word),
    ]
    tiles = Figures([Figure(word, word, word, word, 10, 1.0, 2.0), Figure("FD", 1.5, floor=1.0, ceiling=2.0)])
    sections = [Section(word, f"{word}\n\n{word}", blocks), Section("Training"), Section("Training")]
    return Report(word, word, sections, lead=[tiles])


def test_everything_a_user_can_name_is_text_and_never_markup() -> None:
    html = report.render(everything())
    assert "<script" not in html.lower()
    found = Page(html)
    assert not found.all("script")
    assert found.words.count(EVIL) > 15
    assert {picture["alt"] for picture in found.all("img")} == {EVIL}


def test_the_page_asks_for_nothing_and_forbids_asking() -> None:
    found = Page(report.render(everything()))
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "srcset", "poster", "xlink:href", "action", "data"}:
                assert value.startswith(("data:", "#")), (tag, name, value[:40])
    html = report.render(everything())
    assert not re.search(r"url\((?!#)|@import|<iframe|<object|<embed", html, re.IGNORECASE)
    (policy,) = [meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy


def test_contents_lead_to_the_sections_in_order_and_no_id_is_used_twice() -> None:
    found = Page(report.render(everything("Samples")))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    headings = [heading["id"] for heading in found.all("h2")]
    assert [link["href"] for link in found.all("a")] == [f"#{anchor}" for anchor in headings]
    assert headings == ["samples", "training", "training--2"]


def test_headings_are_one_h1_then_an_h2_a_section_and_the_page_has_a_title_and_language() -> None:
    found = Page(report.render(everything("x")))
    assert [tag for tag, _ in found.elements if re.fullmatch(r"h\d", tag)] == ["h1", "h2", "h2", "h2"]
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("title")) == 1
    assert f"carrara {carrara.__version__}" in found.words


def test_one_section_needs_no_contents() -> None:
    assert not page().all("nav")


def test_a_page_is_the_same_each_time() -> None:
    assert report.render(everything()) == report.render(everything())


def test_pictures_carry_their_bytes_and_size() -> None:
    found = page(Picture(PNG, "a", "b"), Picture(GIF, "c")).all("img")
    assert [picture["src"] for picture in found] == [
        pictures.data_uri(PNG, "image/png"),
        pictures.data_uri(GIF, "image/gif"),
    ]
    assert [(picture["width"], picture["height"]) for picture in found] == [("7", "5"), ("9", "4")]


def test_a_film_brings_a_still_for_paper() -> None:
    film, still = page(Picture(GIF, "a film", still=PNG)).all("img")
    assert film["class"] == "film"
    assert still["class"] == "still"
    assert still["src"] == pictures.data_uri(PNG, "image/png")


def test_pictures_of_other_kinds_or_without_words_are_refused() -> None:
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(jpeg, "JPEG")
    with pytest.raises(InputError, match="PNG or GIF"):
        Picture(jpeg.getvalue(), "a")
    with pytest.raises(InputError, match="PNG or GIF"):
        Picture(GIF, "a", still=b"")
    with pytest.raises(InputError, match="alt="):
        Picture(PNG, " ")


SHELL = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:l="http://www.w3.org/1999/xlink">{}</svg>'


@pytest.mark.parametrize(
    "svg",
    [
        "",
        "no chart",
        "<p/>",
        '<?xml version="1.0"?>' + SHELL.format(""),
        SHELL.format("<g>"),
        SHELL.format("<!-- -->"),
        SHELL.format("<script>1</script>"),
        SHELL.format("<foreignObject/>"),
        SHELL.format("<style>p {}</style>"),
        SHELL.format('<g onload="1"/>'),
        SHELL.format('<use l:href="http://example.org/a.svg#b"/>'),
        SHELL.format('<path style="fill: url(http://example.org)"/>'),
    ],
)
def test_an_svg_that_does_more_than_draw_is_refused(svg: str) -> None:
    with pytest.raises(InputError, match="stands on its own"):
        Chart(svg)


def test_an_svg_that_only_draws_is_put_into_the_page_as_it_is() -> None:
    assert SVG in report.render(everything())


def test_a_table_sets_numbers_right_names_left_and_fractions_alike() -> None:
    found = page(Table(["class", "n", "recall"], [["zero", 1200, 0.5], ["one", None, 0.12345], ["two", 7, None]]))
    assert [head.get("class", "") for head in found.all("th")[:3]] == ["", "number", "number"]
    assert [head["scope"] for head in found.all("th")] == ["col"] * 3 + ["row"] * 3
    assert "zero 1,200 0.5000" in found.words
    assert "one – 0.1235" in found.words
    assert "two 7 –" in found.words


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 cells; the table has 2 columns"):
        Table(["a", "b"], [[1]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("as it is", "as it is"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (-3, "−3"),
        (0.0, "0"),
        (0.123456, "0.1235"),
        (1234.56, "1,235"),
        (9999.7, "10,000"),
        (123456.7, "123,457"),
        (0.0000123456, "1.235e−5"),
        (float("nan"), "NaN"),
        (float("inf"), "∞"),
        (float("-inf"), "−∞"),
    ],
)
def test_numbers_are_shown_with_four_digits(value: report.Cell, shown: str) -> None:
    assert report.number(value) == shown


@pytest.mark.parametrize(
    ("value", "floor", "ceiling", "position"),
    [
        (15.0, 10.0, 20.0, 50.0),
        (5.0, 10.0, 20.0, 0.0),
        (25.0, 10.0, 20.0, 100.0),
        (12.0, 20.0, 10.0, 80.0),
        (15.0, 10.0, None, None),
        (15.0, 10.0, 10.0, None),
        ("15", 10.0, 20.0, None),
        (None, 10.0, 20.0, None),
        (float("nan"), 10.0, 20.0, None),
    ],
)
def test_a_tile_places_its_value_between_floor_and_ceiling(
    value: report.Cell, floor: float | None, ceiling: float | None, position: float | None
) -> None:
    assert Figure("FD", value, floor=floor, ceiling=ceiling).position == position


def test_a_tile_shows_all_that_its_number_needs() -> None:
    words = page(Figures([Figure("Fréchet distance", 14.234, "32 steps", "px", 2000, 6.1, 412.0)])).words
    for part in ("Fréchet distance", "14.2 px", "= 2,000", "32 steps", "floor 6.1", "ceiling 412"):
        assert part in words


def test_empty_lines_begin_paragraphs() -> None:
    assert report.paragraphs("\n one\ntwo\n\n \n three ") == ["one\ntwo", "three"]
    assert report.paragraphs("  ") == []


def test_writing_makes_the_folder_and_replaces_the_page_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    path.parent.mkdir()
    path.write_text("old")
    with path.open() as reader:
        assert report.write(everything(), path) == path
        assert reader.read() == "old"  # whoever was reading reads on
    assert path.read_text(encoding="utf-8") == report.render(everything())
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert report.write(Report("new"), tmp_path / "a" / "b.html").is_file()


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    class Unknown:
        kind = "no_such_block"

    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(Exception, match="no_such_block"):
        report.write(Report("T", sections=[Section("S", blocks=[Unknown()])]), path)
    assert path.read_text() == "old"


def test_letters_that_no_file_can_hold_do_not_stop_a_report(tmp_path: Path) -> None:
    assert "a?b" in report.write(Report("a\ud800b"), tmp_path / "r.html").read_text(encoding="utf-8")
