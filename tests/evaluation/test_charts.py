"""Charts are XML that stands on its own, and show what they were given."""

import json
import logging
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from carrara.errors import InputError
from carrara.evaluation import charts
from carrara.evaluation.report import Chart

NAN, INF = float("nan"), float("inf")
SVG = "{http://www.w3.org/2000/svg}"


def line(**series: charts.Points) -> str:
    return charts.line_chart(series, "Loss", "images seen", "loss")


def words(svg: str) -> set[str]:
    return {"".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")}


def drawn(svg: str, number: int = 1) -> list[list[tuple[float, float]]]:
    """The corners of each stroke in the colour of series `number`, in the drawing's units."""
    strokes = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if f"stroke: var(--chart-{number}" in path.get("style", "") and path.get("clip-path"):
            for part in path.get("d", "").split("M")[1:]:
                numbers = [float(n) for n in re.findall(r"-?[\d.]+", part)]
                strokes.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return strokes


def dots(svg: str) -> int:
    return sum("chart-1" in use.get("style", "") for use in ElementTree.fromstring(svg).iter(f"{SVG}use"))


CASES: dict[str, Callable[[], str]] = {
    "two lines": lambda: line(a=([0, 1, 2], [3, 2, 1]), b=([0, 2], [1, 2])),
    "no series": line,
    "an empty series": lambda: line(a=([], [])),
    "one point": lambda: line(a=([1], [2])),
    "nothing finite": lambda: line(a=([0, 1], [NAN, INF])),
    "constant": lambda: line(a=([0, 1], [5, 5])),
    "log": lambda: charts.line_chart({"a": ([0, 1, 2], [1, 0.1, 1e-5])}, "T", "x", "y", log_y=True),
    "log of one": lambda: charts.line_chart({"a": ([3], [0.5])}, "T", "x", "y", log_y=True),
    "log of nothing positive": lambda: charts.line_chart({"a": ([0, 1], [0, -1])}, "T", "x", "y", log_y=True),
    "histogram": lambda: charts.histogram({"a": [1, 2, 2, 3], "b": [2, 3]}, "T", "x"),
    "empty histogram": lambda: charts.histogram({"a": []}, "T", "x"),
    "histogram of one value": lambda: charts.histogram({"a": [2.0, 2.0, NAN]}, "T", "x"),
    "eleven series": lambda: line(**{f"s{i}": ([0, 1], [i, i + 1]) for i in range(11)}),
    "odd words": lambda: charts.line_chart(
        {"<script>$x$ & 'y'": ([0], [1]), "_中\x00\ud800": ([1], [2])}, "a < b\n$\\frac{}$", "<x>", "&"
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_chart_is_xml_fit_for_a_page_and_the_same_each_time(case: str) -> None:
    svg = CASES[case]()
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"
    assert Chart(svg).svg == svg  # the page's own check
    assert not re.search(r"<style|<metadata|\d{4}-\d\d-\d\dT", svg)
    assert CASES[case]() == svg


@pytest.mark.parametrize(
    "case", ["no series", "an empty series", "nothing finite", "log of nothing positive", "empty histogram"]
)
def test_a_chart_of_nothing_says_so(case: str) -> None:
    assert "nothing measured" in words(CASES[case]())


def test_words_are_written_as_they_are_and_not_as_formulas_or_markup() -> None:
    shown = words(CASES["odd words"]())
    assert {"<script>$x$ & 'y'", "a < b $\\frac{}$", "<x>", "&"} <= shown


def test_the_title_names_the_chart_for_those_who_do_not_see_it() -> None:
    root = ElementTree.fromstring(charts.line_chart({}, 'Loss "raw" & <b>', "x", "y"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'Loss "raw" & <b>'


def test_a_line_goes_through_its_points_in_proportion() -> None:
    x, y = [0.0, 1.0, 4.0, 10.0], [2.0, 8.0, 4.0, 0.0]
    (stroke,) = drawn(line(a=(x, y)))
    across, down = np.array(stroke).T
    assert np.allclose(np.polyfit(x, across, 1)[0] * np.array(x) + np.polyfit(x, across, 1)[1], across, atol=1e-3)
    slope, offset = np.polyfit(y, down, 1)
    assert slope < 0  # upwards is more
    assert np.allclose(slope * np.array(y) + offset, down, atol=1e-3)


def test_equal_ratios_are_equal_heights_on_a_log_axis() -> None:
    (stroke,) = drawn(charts.line_chart({"a": ([0, 1, 2], [1, 10, 100])}, "T", "x", "y", log_y=True))
    heights = [y for _, y in stroke]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=1e-3)


@pytest.mark.parametrize("hole", [NAN, INF, -INF])
def test_what_is_not_finite_is_a_gap_and_a_lonely_point_a_dot(hole: float) -> None:
    svg = line(a=([0, 1, 2, 3, 4, 5, 6], [1, 2, hole, 3, hole, 2, 1]))
    assert [len(stroke) for stroke in drawn(svg) if len(stroke) > 1] == [2, 2]
    assert dots(svg) == 1
    assert dots(line(a=([0, 1], [1, 2]))) == 0


def test_a_spike_among_a_hundred_thousand_points_is_drawn_in_a_small_file() -> None:
    x = np.arange(100_000.0)
    y = np.sin(x)
    y[54_321] = 40.0
    svg = charts.line_chart({"a": (x.tolist(), y.tolist())}, "T", "x", "y")
    heights = np.array([y for stroke in drawn(svg) for _, y in stroke])
    median = float(np.median(heights))
    assert (median - heights).max() > 5 * (heights - median).max()
    assert len(svg) < 60_000


def test_unequal_series_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="'mine'"):
        line(mine=([1, 2], [1]))
    with pytest.raises(InputError, match="bins = 0"):
        charts.histogram({"a": [1]}, "T", "x", bins=0)


def test_a_histogram_tells_number_and_median_of_the_finite_values() -> None:
    shown = words(charts.histogram({"held out": [1.0, 2.0, 6.0, NAN, INF]}, "T", "x"))
    assert "held out: n = 3, median 2" in shown


def test_histograms_are_shares_so_a_sample_ten_times_as_large_looks_the_same() -> None:
    few = [1.0, 2.0, 2.0, 5.0]
    svg = charts.histogram({"few": few, "many": few * 10}, "T", "x", bins=5)
    outline, repeated = (max(drawn(svg, i), key=len) for i in (1, 2))
    assert outline == repeated


def test_drawing_leaves_matplotlib_as_it_was_and_works_in_threads() -> None:
    before = dict(matplotlib.rcParams)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: CASES["two lines"](), range(8)))
    assert len(set(found)) == 1
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3e-4, "3e−4"),
        (0.002, "0.002"),
        (-12, "−12"),
        (9500, "9500"),
        (40_000, "40k"),
        (1.5e6, "1.5M"),
        (2e9, "2G"),
    ],
)
def test_ticks_are_short(value: float, shown: str) -> None:
    assert charts.short(value) == shown


def test_metrics_are_read_by_name_with_the_images_they_belong_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"images": 10, "loss": 3.0, "note": "x", "ok": True}, {"images": 20, "loss": None, "heldout_loss": 1}]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines) + '{"images": 30, "loss": NaN}\n')
    metrics = charts.read_metrics(path)
    assert set(metrics) == {"loss", "heldout_loss"}
    assert metrics["heldout_loss"] == ([20.0], [1.0])
    assert metrics["loss"][0] == [10.0, 20.0, 30.0]
    assert np.array_equal(metrics["loss"][1], [3.0, NAN, NAN], equal_nan=True)


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = "".join(json.dumps({"images": 10 * i, "loss": i / 2}) + "\n" for i in range(1, 4))
    with caplog.at_level(logging.CRITICAL):
        for end in range(len(whole) + 1):
            path.write_text(whole[:end])
            entries = [entry for entry in whole[:end].split("\n") if entry.endswith("}")]
            expected = [float(10 * (i + 1)) for i in range(len(entries))]
            assert charts.read_metrics(path).get("loss", ([], []))[0] == expected


def test_a_line_left_out_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"images": 1, "loss": 2}\n{"images": 2, "lo')
    charts.read_metrics(path)
    assert "line 2" in caplog.text


def test_missing_metrics_are_refused_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        charts.read_metrics(tmp_path / "nowhere.jsonl")


def test_the_charts_of_a_run_are_those_that_were_measured() -> None:
    xs = [0.0, 10.0, 20.0]
    found = charts.loss_charts(
        {"loss": (xs, [4, 2, 0.1]), "heldout_loss": (xs, [4, 3, 1]), "lr": (xs, [0, 1e-3, 1e-3])}
    )
    assert list(found) == ["loss", "lr"]
    assert {"training", "held out", "images seen"} <= words(found["loss"])
    assert "held out, EMA" not in words(found["loss"])
    assert "nothing measured" in words(charts.loss_charts({})["loss"])


def test_the_loss_of_a_run_has_a_log_axis_only_where_one_can_be_and_helps() -> None:
    def heights(values: list[float]) -> list[float]:
        svg = charts.loss_charts({"loss": ([0, 1, 2], values)})["loss"]
        return [y for stroke in drawn(svg) for _, y in stroke]

    log, linear = heights([1, 10, 100]), heights([1, 2, 3])
    negative = heights([-1, 49.5, 100])
    for equal in (log, linear, negative):
        assert equal[0] - equal[1] == pytest.approx(equal[1] - equal[2], abs=1e-3)


def test_a_logarithmic_x_axis_is_marked_at_its_values_and_leaves_out_what_it_cannot_show() -> None:
    svg = charts.line_chart({"a": ([0, 5, 50, 500], [9, 1, 2, 3])}, "T", "steps", "y", log_x=True)
    assert {"5", "50", "500"} <= words(svg) and "9" not in words(svg)
    (stroke,) = drawn(svg)
    gaps = [b[0] - a[0] for a, b in pairwise(stroke)]
    assert len(stroke) == 3 and gaps[0] == pytest.approx(gaps[1], rel=1e-3)


def test_no_two_of_seven_series_look_alike_and_their_names_leave_the_chart_its_height() -> None:
    series: dict[str, charts.Points] = {f"eta 0.{i}5": ([0, 1], [i, i]) for i in range(7)}
    svg = charts.line_chart(series, "T", "x", "y")
    looks = set()
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        style = path.get("style", "")
        if path.get("clip-path") and "--chart-" in style and "--chart-line" not in style:
            dashes = re.search(r"stroke-dasharray: ([^;]*)", style)
            looks.add((re.findall(r"--chart-(\d)", style)[0], dashes and dashes.group(1)))
    assert len(looks) == 7
    heights = [y for number in range(1, 5) for stroke in drawn(svg, number) for _, y in stroke]
    assert max(heights) - min(heights) > 90  # Of 238; seven names one below the other would leave 60.
