"""Comparisons: the same pictures have the same figures, whatever they are called, in whatever order, however often stopped."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pooled import Pooled
from torch import Tensor

from carrara.data import Dataset, load
from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.compare import Plan, compare, planned, run, sheets, tables, write_page
from carrara.evaluation.compare.figures import NAMES
from carrara.evaluation.compare.runner import HELDOUT, MEASURING, NOISE, SAMPLING, counted
from carrara.evaluation.compare.things import recognised
from carrara.evaluation.folder import picture_folder
from carrara.evaluation.frechet import frechet_distance
from carrara.evaluation.measure import yardstick
from carrara.evaluation.pictures import grid, png_bytes
from carrara.evaluation.statistics import Moments
from carrara.evaluation.statistics_file import write_statistics
from carrara.evaluation.streaming import moments_of
from carrara.model import Model, build
from carrara.recipe import read

N = 24


def saved(folder: Path, dataset: Dataset, shake: float, *changes: str) -> Path:
    """A model folder of an untrained network whose weights are not zero anywhere."""
    made = build(read("digits", ["network.width=8", "sampling.steps=2", *changes]), dataset.shape, dataset.classes)
    with torch.no_grad():
        for index, parameter in enumerate(made.denoiser.network.parameters()):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.add_(shake * draw)
    made.facts.update(training_seconds=7, training_images_seen=512)
    made.save(folder)
    return folder


def put(folder: Path, media: Tensor) -> Path:
    folder.mkdir(parents=True)
    for index, picture in enumerate(media.numpy()):
        (folder / f"{index:03d}.png").write_bytes(png_bytes(grid(picture[None], scale=1)))
    return folder


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """Models a and b, the same as a under the name again, the pictures of a, statistics of these. Not to be changed."""
    root = tmp_path_factory.mktemp("house")
    a = saved(root / "a", digits, 0.02)
    saved(root / "b", digits, 0.05)
    shutil.copytree(a, root / "again")
    put(root / "pictures", drawn(a))
    write_statistics(root / "stats.npz", moments_of(picture_folder(root / "pictures", channels=1), Pooled()))
    return root


def drawn(folder: Path) -> Tensor:
    from carrara.model import load as load_model

    return load_model(folder).sample(N)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


def plan(house: Path, out: Path, *names: str, **changes: Any) -> Plan:
    return planned([house / name for name in names], folder=out, **{"n": N, "features": Pooled(), **changes})


def figures(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(row["name"]).name: row["figures"] for row in (*result["things"], *result["scale"])}


def without(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name not in names}


def test_the_same_pictures_have_the_same_figures_under_every_name(house: Path, tmp_path: Path) -> None:
    """A model, the same model elsewhere, a folder of its samples, and their statistics as far as these go."""
    names = ("a", "again", "pictures", "stats.npz", "b")
    found = figures(run(plan(house, tmp_path / "one", *names)))
    assert found["a"] == found["again"] and found["a"] != found["b"]
    assert all(value is not None and math.isfinite(value) for value in found["a"].values())
    assert without(found["pictures"], "read") == without(found["a"], "read") and found["pictures"]["read"] is None
    assert found["stats.npz"] == {**dict.fromkeys(NAMES), "frechet": found["a"]["frechet"]}
    other_way = figures(run(plan(house, tmp_path / "two", *reversed(names))))
    assert other_way == found
    assert figures(run(plan(house, tmp_path / "three", "b"))) == {key: found[key] for key in ("b", HELDOUT, NOISE)}


def test_figures_are_those_of_the_measures_alone(house: Path, digits: Dataset, tmp_path: Path) -> None:
    result = run(plan(house, tmp_path, "a", "b"))
    found = figures(result)
    measured = yardstick(digits, N, Pooled()).measure(drawn(house / "a"))
    assert found["a"]["frechet"] == pytest.approx(measured.value, rel=1e-9)
    assert found[HELDOUT]["frechet"] == pytest.approx(measured.floor, rel=1e-9)
    assert found[NOISE]["frechet"] == pytest.approx(measured.ceiling, rel=1e-9)
    for each in found.values():
        assert each["frechet_low"] < each["frechet"] < each["frechet_high"]
        assert each["frechet_infinite_low"] < each["frechet_infinite"] < each["frechet"]
        assert each["kid_low"] < each["kid"] < each["kid_high"]
    assert found[HELDOUT]["coverage"] > found[NOISE]["coverage"] and found[HELDOUT]["read"] > 0.9
    row = result["things"][0]
    assert (row["n"], row["features"], row["resizer"]) == (N, "pooled@4", "area") and "1,437" in row["reference"]


def test_copies_of_training_pictures_are_found(digits: Dataset, tmp_path: Path) -> None:
    """All of one folder; the first alone of another, which begins with the same picture."""
    copied = torch.from_numpy(digits.train.media[:N].copy())
    mixed = torch.cat([copied[:1], 255 - copied[1:]])
    folders = [put(tmp_path / "copied", copied), put(tmp_path / "mixed", mixed)]
    found = figures(run(planned(folders, N, digits, Pooled(), folder=tmp_path / "out")))
    assert found["copied"]["copies"] == N and found["copied"]["nearer_share"] == 1.0
    assert found["mixed"]["copies"] == 1 and found["mixed"]["nearer_share"] == pytest.approx(1 / N)


def test_a_comparison_that_was_stopped_goes_on(house: Path, tmp_path: Path, walks: list[Any]) -> None:
    """After the first model, or amid the measuring: what comes out is what one that was never stopped gives."""
    whole = run(plan(house, tmp_path / "whole", "a", "b", "pictures"))
    walks.clear()
    for stage_of_stop, at in ((SAMPLING, 3 * N), (MEASURING, 4)):

        def stopping(stage: str, done: int, total: int, where: str = stage_of_stop, at: int = at) -> None:
            if stage == where and done >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(plan(house, tmp_path / "split", "a", "b", "pictures"), stopping)
    went_on = run(plan(house, tmp_path / "split", "a", "b", "pictures"))
    assert figures(went_on) == figures(whole)
    assert len(walks) == 3  # a once; b was stopped, and drawn once more.
    walks.clear()
    features = Pooled()
    again = run(plan(house, tmp_path / "split", "a", "b", "pictures", features=features))
    assert not walks and features.seen == 0
    assert again["things"] == went_on["things"] and again["scale"] == went_on["scale"]


def test_what_is_new_is_drawn_and_what_is_known_is_not(house: Path, tmp_path: Path, walks: list[Any]) -> None:
    run(plan(house, tmp_path, "a"))
    run(plan(house, tmp_path, "a", "b"))
    assert len(walks) == 2
    for change in ({"seed": 1}, {"batch": 5}, {"wishes": lambda model: {"steps": 3}}, {"backend": "torch-bf16"}):
        assert plan(house, tmp_path, "a", **change).drawings[str(house / "a")].missing(), change


def test_blocks_are_whole_batches_and_their_samples_the_models(house: Path, tmp_path: Path) -> None:
    made = plan(house, tmp_path, "a", n=70, batch=30, seed=9)
    drawing = next(iter(made.drawings.values()))
    assert [(rows.start, rows.stop) for rows in drawing.blocks()] == [(0, 60), (60, 70)]
    assert torch.equal(drawing.samples(), drawing.model.sample(70, seed=9, batch=30))
    assert torch.equal(drawing.samples(65), drawing.samples()[:65])


def test_what_a_model_costs(house: Path, tmp_path: Path) -> None:
    rows = run(plan(house, tmp_path, "a", "pictures"))["things"]
    cost = rows[0]["cost"]
    assert cost["seconds_per_sample"] > 0 and cost["evaluations_per_sample"] == 3 * (
        1 + (cost_guidance(rows[0]) != 1)
    )
    assert (cost["training_seconds"], cost["training_images_seen"], cost["batch"]) == (7, 512, 32)
    assert rows[1]["cost"] is None


def cost_guidance(row: dict[str, Any]) -> float:
    return float(row["sampling"]["guidance_scale"])


def test_folders_and_statistics_as_the_reference_have_no_floor(house: Path, tmp_path: Path) -> None:
    real = put(tmp_path / "real", torch.from_numpy(load("digits").train.media[:50].copy()))
    by_folder = run(plan(house, tmp_path / "out", "b", "stats.npz", reference=real))
    assert by_folder["scale"] == [] and by_folder["reference_n"] == 50 and by_folder["pairs_n"] == N
    found = figures(by_folder)["b"]
    assert found["recall"] is not None and found["copies"] is None and found["read"] is None
    # Statistics of that folder are the same Gaussian, and nothing more.
    write_statistics(tmp_path / "real.npz", moments_of(picture_folder(real, channels=1), Pooled()))
    by_file = run(plan(house, tmp_path / "out", "b", reference=tmp_path / "real.npz"))
    assert figures(by_file)["b"]["frechet"] == pytest.approx(found["frechet"], rel=1e-9)
    assert figures(by_file)["b"]["kid"] is None and by_file["pairs_n"] is None
    assert set(by_file["things"][0]["missing"]) == set(NAMES) - {n for n in NAMES if n.startswith("frechet")}


def test_statistics_have_their_own_n_and_their_distance_is_the_gaussians(house: Path, tmp_path: Path) -> None:
    rows = torch.randn(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moments = Moments(16)
    moments.update(rows)
    write_statistics(tmp_path / "own.npz", moments)
    result = run(planned([tmp_path / "own.npz"], None, house / "stats.npz", Pooled(), folder=tmp_path / "out"))
    reference = moments_of(picture_folder(house / "pictures", channels=1), Pooled())
    assert result["things"][0]["n"] == 40
    assert figures(result)["own.npz"]["frechet"] == pytest.approx(frechet_distance(moments, reference), rel=1e-9)


def test_n_is_the_smallest_count_unless_it_is_given(house: Path, tmp_path: Path, digits: Dataset) -> None:
    assert plan(house, tmp_path, "a", "pictures", n=None).n == N
    made = plan(house, tmp_path, "a", n=None)
    assert made.n == 360 and "360 held-out pictures" in made.why_n
    assert plan(house, tmp_path, "a", n=None, reference=house / "pictures").n == 1000
    assert compare([house / "b"], 8, features=Pooled(), out=tmp_path, steps=1)["n"] == 8


def test_colours_are_those_the_files_are_stored_in(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "LA", "RGBA"):
        folder = tmp_path / mode
        folder.mkdir()
        Image.new(mode, (4, 4)).save(folder / "a.png")
        assert recognised([folder])[0].shape[0] == (1 if mode in ("L", "LA") else 3)


def colour(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    for index in range(8):
        Image.new("RGB", (8, 8), (index, 0, 9)).save(root / f"{index}.png")
    return root


def large(root: Path) -> Path:
    return put(root, torch.randint(0, 256, (8, 1, 9, 9), dtype=torch.uint8))


def foreign(path: Path) -> Path:
    moments = Moments(3)
    moments.update(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)))
    write_statistics(path, moments)
    return path


REFUSED: dict[str, tuple[Callable[[Path, Path], dict[str, Any]], str]] = {
    "nothing": (lambda house, own: {"things": []}, "there is nothing to compare; give one thing or more: a run or"),
    "twice": (
        lambda house, own: {"things": [house / "a", f"{house}/a/"]},
        "a is named 2 times, and would be beside itself; name it once",
    ),
    "nowhere": (lambda house, own: {"things": [own / "gone"]}, "gone does not exist; what can be compared is a run"),
    "another file": (
        lambda house, own: {"things": [house / "a" / "model.json"]},
        "is a file of another kind; what can be compared is a run or model folder, a folder of pictures, or an .npz",
    ),
    "an empty folder": (lambda house, own: {"things": [own]}, "holds no picture"),
    "an unfinished run": (
        lambda house, own: {"things": [begun(own / "run")]},
        "is a run whose model is not finished",
    ),
    "no reference": (lambda house, own: {"things": [house / "pictures"]}, "say it with --reference: a dataset"),
    "a model as reference": (
        lambda house, own: {"things": [house / "pictures"], "reference": house / "a"},
        "a is a model; give a dataset, a folder of real pictures, or statistics of some",
    ),
    "a reference that is not there": (
        lambda house, own: {"things": [house / "a"], "reference": own / "gone"},
        "gone is neither a folder nor an .npz file",
    ),
    "too few pictures": (
        lambda house, own: {"things": [house / "a", house / "pictures"], "n": 25},
        f"25 pictures of each thing were asked for, and .*pictures has {N} pictures; give -n {N} or fewer",
    ),
    "too few held out": (
        lambda house, own: {"things": [house / "a"], "n": 361},
        "digits has 360 held-out pictures, which the floor is measured on; give -n 360 or fewer",
    ),
    "hardly any": (lambda house, own: {"things": [house / "a"], "n": 5}, "5 pictures of each .* 6 are the least"),
    "colours": (
        lambda house, own: {"things": [house / "a", colour(own / "colour")], "n": 6},
        r"colour has pictures of 8×8 in colour \(3×8×8\), and the reference digits has 8×8 in grey \(1×8×8\): grey",
    ),
    "sizes": (
        lambda house, own: {"things": [house / "a", large(own / "large")], "n": 6},
        r"large has pictures of 9×9 in grey \(1×9×9\), .* bring the pictures to that size with --size 8",
    ),
    "a model of another size": (
        lambda house, own: {"things": [house / "a"], "n": 6, "reference": large(own / "large")},
        "a has pictures of 8×8 .* compare models of one size",
    ),
    "other features": (
        lambda house, own: {"things": [house / "a", foreign(own / "other.npz")]},
        "other.npz has statistics of 3 features, and pooled@4 makes 16; no features of carrara's are as long",
    ),
    "a wish no model has": (
        lambda house, own: {"things": [house / "a"], "wishes": lambda model: {"sampler": "huen"}},
        "a: there is no sampler 'huen': did you mean 'heun'",
    ),
}


def begun(folder: Path) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: x\n")
    return folder


@pytest.mark.parametrize(("given", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared_is_refused_before_anything_is_sampled(
    given: Any, sentence: str, house: Path, tmp_path: Path, walks: list[Any]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(InputError, match=sentence):
        planned(**{"features": Pooled(), "folder": tmp_path / "out", **given(house, own)})
    assert not walks


def test_size_brings_a_folder_to_the_references_size(house: Path, tmp_path: Path) -> None:
    large(tmp_path / "large")
    made = planned([house / "a", tmp_path / "large"], None, None, Pooled(), size=8, folder=tmp_path / "out")
    assert made.n == 8 and made.things[1].shape == (1, 8, 8)  # type: ignore[union-attr]


class Page(HTMLParser):
    """What a page asks for, its tags in order, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.bold = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.asked += [value for name, value in attributes if name in ("src", "href") and value]
        assert tag != "script" and not any(name.startswith("on") for name, _ in attributes)
        self.open += [tag] if tag not in ("meta", "link", "img", "br") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        self.bold += f"[{data}]" if self.open[-1:] == ["strong"] else ""


def test_the_page_is_one_file_that_asks_for_nothing_and_escapes_names(house: Path, tmp_path: Path) -> None:
    name = '<img src=x onerror="1"> & co'
    shutil.copytree(house / "pictures", tmp_path / name)
    made = planned([house / "a", house / "b", tmp_path / name], N, None, Pooled(), folder=tmp_path / "out")
    result = run(made)
    text = write_page(json.loads(json.dumps(result)), sheets(made), tmp_path / "page.html").read_text()
    page = Page(text)
    assert not page.open and all(re.match(r"data:|#", asked) for asked in page.asked)
    assert name in page.text and "<img src=x" not in text
    assert text.count("<svg") == 2 and text.count('<img src="data:image/png') == 4
    for table in (tables.distances(result), tables.shares(result), tables.costs(result)):
        assert table is not None
        assert all(f"[{table.cells[row][column]}]" in page.bold for row, column in table.best)
    assert page.bold and "held-out pictures" in page.text and "There is no row" not in page.text


def test_a_page_without_models_or_floor_says_why(house: Path, tmp_path: Path) -> None:
    made = plan(house, tmp_path / "out", "pictures", "stats.npz", reference=house / "stats.npz")
    text = Page(write_page(run(made), sheets(made), tmp_path / "page.html").read_text()).text
    assert (
        "There is no row of held-out pictures" in text and "a statistics file gives a Fréchet distance only" in text
    )
    assert "Cost" not in text and "the same seed" not in text


def test_sheets_hold_the_same_seeds_in_the_same_places(house: Path, tmp_path: Path) -> None:
    made = plan(house, tmp_path, "a", "pictures", "stats.npz")
    found = sheets(made)
    assert [Path(name).name for name, _ in found] == ["a", "pictures", HELDOUT]
    assert torch.equal(found[0][1], found[1][1]) and len(found[0][1]) == N
    row = run(made)["things"][0]
    assert row["shown"][:11] == [str(index % 10) for index in range(11)]


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The seeds of each batch walked."""
    walked: list[Any] = []
    walk = Model.walk

    def spied(self: Model, seeds: Any, *rest: Any) -> Any:
        walked.append(list(seeds))
        return walk(self, seeds, *rest)

    monkeypatch.setattr(Model, "walk", spied)
    return walked


def test_damaged_blocks_are_drawn_again(house: Path, tmp_path: Path) -> None:
    made = plan(house, tmp_path, "a")
    before = figures(run(made))
    drawing = next(iter(made.drawings.values()))
    path = cache._path(drawing.key(drawing.blocks()[0]), made.kept)
    path.write_bytes(b"damaged")
    assert drawing.missing() and figures(run(plan(house, tmp_path, "a"))) == before
    assert counted(9, [], made.reference) == (9, "")


def test_the_best_of_a_column_is_of_the_things_of_one_n(house: Path, tmp_path: Path) -> None:
    """Neither held-out pictures nor statistics of more pictures are the best, and of equals none is."""
    result = run(plan(house, tmp_path, "a", "b", "stats.npz"))
    best = 0 if better(result) else 1
    result["things"][2] = {**result["things"][2], "n": 99, "figures": dict.fromkeys(NAMES) | {"frechet": 0.0}}
    assert {row for row, column in tables.distances(result).best if column == 2} == {best}
    result["things"][2]["n"] = N
    assert {row for row, column in tables.distances(result).best if column == 2} == {2}
    alike = run(plan(house, tmp_path, "a", "again"))
    assert not tables.distances(alike).best and not tables.shares(alike).best


def better(result: dict[str, Any]) -> bool:
    """Whether a is nearer than b."""
    found = figures(result)
    return bool(found["a"]["frechet"] < found["b"]["frechet"])


def test_a_model_of_other_data_is_noted(house: Path, tmp_path: Path, digits: Dataset) -> None:
    saved(tmp_path / "other", digits, 0.02)
    from carrara.model import load as load_model

    model = load_model(tmp_path / "other")
    model.facts["data_fingerprint"] = "0" * 64
    model.save(tmp_path / "other")
    result = run(planned([house / "a", tmp_path / "other"], N, digits, Pooled(), folder=tmp_path / "out"))
    assert [row["data_matches"] for row in result["things"]] == [True, False]
    (note,) = tables.notes(result)
    assert note.startswith(f"{tmp_path / 'other'} was trained on other pictures")
