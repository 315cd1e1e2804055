"""A report as data, and the one HTML file it becomes.

A report is sections of blocks; a block is a frozen dataclass that names its template, `templates/block_KIND.html.j2`. So
a new kind of block is one class and one template. The page holds its pictures, its charts and its rules itself, asks no
server for anything (a content security policy says so to the browser) and runs no script but those of carrara's own that its
blocks name, each allowed by its hash: it opens from a disk, in an e-mail and on paper. All text is escaped; the only markup
taken as it is comes from `carrara.evaluation.charts`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import jinja2
from markupsafe import Markup

import carrara
from carrara import files
from carrara.errors import InputError
from carrara.evaluation.pictures import data_uri

Cell = str | int | float | None

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"GIF87a": "image/gif", b"GIF89a": "image/gif"}
_SVG_TAGS = {
    "svg",
    "g",
    "defs",
    "clipPath",
    "path",
    "rect",
    "circle",
    "line",
    "use",
    "text",
    "tspan",
    "title",
    "desc",
}


class Block(Protocol):
    """What a section holds: the name of its template, and whatever that template reads.

    One that moves names its script too, `script`, a file beside the templates.
    """

    @property
    def kind(self) -> str: ...


@dataclass(frozen=True)
class Figure:
    """One measured number, for a tile: the number large, what it needs to be understood below it.

    `floor` and `ceiling` are what the same measure gives for the best and the worst that can be expected (or the other way
    round), say real pictures against real ones and noise against real ones; given both and a number, the tile also draws
    where between them the value lies. `n` is how many pictures were measured.
    """

    name: str
    value: Cell
    detail: str = ""
    unit: str = ""
    n: int | None = None
    floor: float | None = None
    ceiling: float | None = None

    @property
    def position(self) -> float | None:
        """Where the value lies between floor (0) and ceiling (100), in percent, or None where that means nothing."""
        if self.floor is None or self.ceiling is None or isinstance(self.value, str | None):
            return None
        share = (self.value - self.floor) / ((self.ceiling - self.floor) or math.nan)
        return 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else None


@dataclass(frozen=True)
class Figures:
    """Tiles of measured numbers, side by side."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Picture:
    """A PNG or a GIF. `alt` says in words what it shows; `still` stands for a film on paper and where motion is unwanted.

    Raises InputError for bytes of another format and for an empty `alt`.
    """

    kind: ClassVar[str] = "picture"
    data: bytes
    alt: str
    caption: str = ""
    still: bytes | None = None

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise InputError("a picture in a report needs alt=..., a sentence that says what it shows")
        for data in (self.data, self.still):
            if data is not None:
                _mime(data)

    @property
    def source(self) -> str:
        """The picture as an address that holds it."""
        return data_uri(self.data, _mime(self.data))

    @property
    def still_source(self) -> str | None:
        """The still as an address that holds it."""
        return None if self.still is None else data_uri(self.still, _mime(self.still))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, so that the page does not jump while it loads."""
        if self.data.startswith(b"GIF"):
            return int.from_bytes(self.data[6:8], "little"), int.from_bytes(self.data[8:10], "little")
        return int.from_bytes(self.data[16:20], "big"), int.from_bytes(self.data[20:24], "big")


@dataclass(frozen=True)
class Chart:
    """An SVG from `carrara.evaluation.charts`. Raises InputError for anything but one `<svg>` that stands on its own."""

    kind: ClassVar[str] = "chart"
    svg: str
    caption: str = ""

    def __post_init__(self) -> None:
        fault = _fault(self.svg)
        if fault:
            raise InputError(f"a chart must be one <svg> element that stands on its own; this one {fault}")

    @property
    def markup(self) -> Markup:
        """The SVG, to be put into the page as it is."""
        return Markup(self.svg)  # checked above


@dataclass(frozen=True)
class Table:
    """Rows of cells under column heads; the first cell of a row names it, and columns of numbers are set flush right.

    `best` are the cells, (row, column) from 0, that are set in bold. Raises InputError when a row has more or fewer cells
    than there are columns.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InputError(
                    f"the row {list(row)!r} has {len(row)} cells; the table has {len(self.columns)} columns"
                )

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, or nothing, in every row."""
        return [
            bool(self.rows) and all(not isinstance(row[c], str) for row in self.rows)
            for c in range(len(self.columns))
        ]

    @property
    def cells(self) -> list[list[str]]:
        """The rows as they are shown: the fractions of a column all with as many decimals."""
        columns = [_aligned([row[c] for row in self.rows]) for c in range(len(self.columns))]
        return [list(row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class KeyValues:
    """Pairs of a name and what it is: a run's settings, versions, hashes."""

    kind: ClassVar[str] = "key_values"
    items: Sequence[tuple[str, Cell]]


@dataclass(frozen=True)
class Text:
    """Running text; an empty line begins a paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Code:
    """Text in a fixed-width font, as it is: a command, a recipe. With a `summary` it is folded under that line."""

    kind: ClassVar[str] = "code"
    text: str
    summary: str = ""


@dataclass(frozen=True)
class Row:
    """Blocks side by side where the page is wide enough, one below the other where it is not."""

    kind: ClassVar[str] = "row"
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A heading, its text (an empty line begins a paragraph), and blocks."""

    title: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Report:
    """A page: title and subtitle, the blocks that come before everything else, usually Figures, and sections."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()
    lead: Sequence[Block] = ()


def render(report: Report) -> str:
    """The report as one HTML document: the same text for the same report and version of carrara."""
    ids = _anchors([section.title for section in report.sections])
    template = _environment().get_template("report.html.j2")
    sections = list(zip(ids, report.sections, strict=True))
    every = [*report.lead, *(block for section in report.sections for block in section.blocks)]
    scripts = [_script(name) for name in dict.fromkeys(_named(every))]
    return template.render(report=report, sections=sections, scripts=scripts, version=carrara.__version__)


def write(report: Report, path: str | os.PathLike[str]) -> Path:
    """The path of the page just written, its folder made if need be.

    Written whole or not at all, so a browser that reloads never meets half a page.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, render(report).encode("utf-8", errors="replace"))
    return path


def _named(blocks: Iterable[Block]) -> Iterator[str]:
    """The scripts that these blocks and those in their rows name."""
    for block in blocks:
        yield from _named(getattr(block, "blocks", ()))
        if name := getattr(block, "script", ""):
            yield name


def _script(name: str) -> tuple[str, Markup]:
    """(its hash as a content security policy has it, the script)."""
    loader = _environment().loader
    assert loader is not None
    source = loader.get_source(_environment(), name)[0]
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'", Markup(source)  # carrara's own, beside the templates


def paragraphs(text: str) -> list[str]:
    """The text cut at empty lines."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def number(value: Cell, digits: int = 4) -> str:
    """A cell as it is shown: numbers with `digits` significant digits and thousands apart, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _digits(value, digits).replace("-", "−")


def _aligned(column: Sequence[Cell]) -> list[str]:
    fractions = [abs(cell) for cell in column if isinstance(cell, float) and math.isfinite(cell) and cell]
    if not fractions or max(fractions) >= 1e6 or min(fractions) < 1e-3:
        return [number(cell) for cell in column]
    decimals = max(0, 3 - math.floor(math.log10(min(max(fractions), 999.0))))
    return [
        f"{cell:,.{decimals}f}".replace("-", "−") if isinstance(cell, float) and math.isfinite(cell) else number(cell)
        for cell in column
    ]


def _digits(value: int | float, digits: int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value and abs(value) < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    whole = abs(float(f"{value:.{digits}g}")) >= 10**digits
    return f"{value:,.0f}" if whole else f"{value:,.{digits}g}"


def _fault(svg: str) -> str:
    """What in the SVG keeps it from being put into a page as it is; empty if nothing does."""
    if "<!" in svg or "<?" in svg:
        return "has a prologue, a comment or a declaration"
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        return f"is no XML: {error}"
    if not root.tag.endswith("svg"):
        return f"is a <{root.tag}>"
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in _SVG_TAGS:
            return f"holds a <{tag}>"
        for name, value in element.attrib.items():
            foreign = name.endswith("href") and not value.startswith("#")
            if foreign or name.startswith("on") or re.search(r"url\((?!#)", value):
                return f"holds {name}={value!r}"
    return ""


def _mime(data: bytes) -> str:
    for signature, mime in _SIGNATURES.items():
        if data.startswith(signature):
            return mime
    raise InputError(f"a picture in a report must be a PNG or GIF file's bytes; these begin with {data[:8]!r}")


def _anchors(titles: Sequence[str]) -> list[str]:
    """An id for each title: readable in an address, and no two alike."""
    ids: list[str] = []
    for title in titles:
        word = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        repeats = sum(anchor == word or anchor.startswith(f"{word}--") for anchor in ids)
        ids.append(f"{word}--{repeats + 1}" if repeats else word)
    return ids


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("carrara.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "paragraphs": paragraphs}
    return environment
