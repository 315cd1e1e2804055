"""Charts of single points: every value and interval is there, names are text, and nothing is left to say so."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from carrara.evaluation.dots import NAMES, Dot, dot_chart, interval_chart, shortened
from carrara.evaluation.report import Chart


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_rows_have_their_names_and_levels_theirs() -> None:
    dots = {"a & <b>": Dot(20.0, 18.0, 22.0), "runs/of/somebody/very/long/indeed/fashion": Dot(30.0)}
    svg = Chart(interval_chart(dots, {"floor": 10.0, "ceiling": 40.0}, "Title", "distance")).svg
    found = texts(svg)
    assert {"a & <b>", "floor", "ceiling", "distance", "Title"} <= set(found)
    assert any(text.startswith("…") and text.endswith("indeed/fashion") for text in found)
    assert svg == interval_chart(dots, {"floor": 10.0, "ceiling": 40.0}, "Title", "distance")
    assert svg != interval_chart({**dots, "a & <b>": Dot(20.0, 19.0, 22.0)}, {}, "Title", "distance")


def test_an_axis_is_logarithmic_where_numbers_are_far_apart_and_positive() -> None:
    wide = {"a": Dot(1.0), "b": Dot(1000.0)}
    assert {"1", "1000"} <= set(texts(interval_chart(wide, {}, "t", "x")))
    linear = texts(interval_chart({**wide, "c": Dot(-1.0)}, {}, "t", "x"))
    assert "0" in linear and "10" not in linear


def test_dots_without_a_place_are_left_out() -> None:
    dots = {
        "here": Dot(2.0, 1.0, 3.0, 0.5),
        "nowhere": Dot(2.0),
        "zero": Dot(2.0, x=0.0),
        "nan": Dot(math.nan, x=1.0),
    }
    found = texts(dot_chart(dots, {"floor": 1.5}, "t", "x", "y"))
    assert "here" in found and "floor" in found and not {"nowhere", "zero", "nan"} & set(found)
    assert "nothing measured" in texts(dot_chart({"nowhere": Dot(1.0)}, {}, "t", "x", "y"))
    assert "nothing measured" in texts(interval_chart({}, {}, "t", "x"))


def test_long_names_keep_their_end() -> None:
    assert shortened("a" * 40 + "z").endswith("z") and len(shortened("a" * 41)) == NAMES and shortened("ab") == "ab"
