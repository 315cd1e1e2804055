"""Studies: every cell from the same seeds, kept as soon as it is there, measured as real pictures are."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pooled import Pooled
from torch import Tensor

from carrara.data import Dataset, load
from carrara.errors import InputError
from carrara.evaluation.evaluate import evaluate
from carrara.evaluation.measure import frechet
from carrara.evaluation.studies import STUDIES
from carrara.evaluation.studies import run as runner
from carrara.evaluation.studies.ground import MEASURES, Ground
from carrara.evaluation.studies.noise import MEAN
from carrara.evaluation.studies.page import write_page
from carrara.evaluation.studies.run import Plan, Way, planned, run, sheets, shown
from carrara.evaluation.studies.size import sizes
from carrara.model import Model, build
from carrara.recipe import read

VALUES, N = (2, 4), 12
NOISE = STUDIES["noise"]


@dataclasses.dataclass
class Doubled(Pooled):
    """The same features, twice as far apart."""

    name: str = "doubled@4"

    def __call__(self, images: Tensor, /) -> Tensor:
        return 2 * super().__call__(images)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def model(digits: Dataset) -> Model:
    """Untrained, with weights that are not zero anywhere."""
    made = build(read("digits", ["network.width=8", "sampling.guidance_scale=1.5"]), digits.shape, digits.classes)
    with torch.no_grad():
        for index, parameter in enumerate(made.denoiser.network.parameters()):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.add_(0.02 * draw)
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRARA_CACHE", str(tmp_path / "cache"))


def plan(model: Model, digits: Dataset, folder: Path, **changes: Any) -> Plan:
    return planned(NOISE, model, digits, folder, **{"n": N, "values": VALUES, "features": Pooled(), **changes})


def figures(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: cell[name] for name in ("line", "x", *NOISE.measures)} for cell in result["cells"]]


def other_plan(name: str, model: Model, digits: Dataset, folder: Path, *values: float, **changes: Any) -> Plan:
    return planned(STUDIES[name], model, digits, folder, n=N, values=values, features=Pooled(), **changes)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], Any]]:
    """Each batch walked: its seeds and its settings."""
    walked: list[tuple[list[int], Any]] = []
    walk = Model.walk

    def spied(self: Model, seeds: Any, cond: Any, sampling: Any = None, *rest: Any) -> Any:
        walked.append((list(seeds), sampling))
        return walk(self, seeds, cond, sampling, *rest)

    monkeypatch.setattr(Model, "walk", spied)
    return walked


def test_cells_are_every_share_of_noise_at_every_number_of_steps(
    model: Model, digits: Dataset, tmp_path: Path
) -> None:
    cells = plan(model, digits, tmp_path, values=None).cells
    settings = [(cell.line, s.steps, s.options.get("eta"), s.options.get("temperature", 1.0)) for cell, s in cells]
    etas = (0, 0.25, 0.5, 0.75, 1)
    expected = [(f"eta {eta:g}", steps, eta, 1) for eta in etas for steps in (5, 10, 50, 250)]
    assert settings == [*expected, *((MEAN, steps, 1, 0) for steps in (5, 10, 50, 250))]
    assert {(s.sampler, s.guidance_scale) for _, s in cells} == {
        ("ancestral", 1.0)
    } and model.sampling.guidance_scale > 1


def test_a_cells_samples_are_the_models(model: Model, digits: Dataset, tmp_path: Path) -> None:
    """With the same seeds and labels in every cell, batched or not; its path ends where the samples are."""
    made = plan(model, digits, tmp_path, seed=5, batch=5)
    run(made)
    for cell, sampling in made.cells:
        kept = runner.samples_of(made, sampling)
        options = {"steps": int(cell.x), "sampler": "ancestral", "guidance_scale": 1.0, "options": sampling.options}
        assert (kept["samples"].int() - model.sample(N, seed=5, **options).int()).abs().max() <= 1
        last = model.codec.encode(kept["samples"]).double().var(0, correction=0).mean().sqrt()
        assert kept["times"][-1] == 0 and len(kept["times"]) == cell.x
    assert kept["spread"][-1] == pytest.approx(float(last), rel=0.3)


def test_a_study_that_was_stopped_goes_on(model: Model, digits: Dataset, tmp_path: Path, walks: list[Any]) -> None:
    """And what comes out is what one that was never stopped gives; done once more, nothing is sampled or measured."""
    stops = [5]

    def stopping(stage: str, done: int, total: int) -> None:
        stops[0] -= stage == runner.SAMPLING
        if not stops[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan(model, digits, tmp_path / "a"), stopping)
    begun = plan(model, digits, tmp_path / "a")
    assert len(begun.missing()) == 12 - 1  # 2 + 4 steps: the fifth is in the second cell.
    totals: set[int] = set()
    went_on = run(begun, lambda stage, done, total: totals.add(total) if stage == runner.SAMPLING else None)
    assert totals == {N * (6 * sum(VALUES) - VALUES[0])}  # What is left to do, so that the time left is right.
    whole = run(plan(model, digits, tmp_path / "b"))
    assert figures(went_on) == figures(whole) and [c["path"] for c in went_on["cells"]] == [
        c["path"] for c in whole["cells"]
    ]
    walks.clear()
    features = Pooled()
    again = run(plan(model, digits, tmp_path / "b", features=features))
    assert not walks and figures(again) == figures(whole)
    assert not features.seen


def test_only_what_is_new_is_sampled(model: Model, digits: Dataset, tmp_path: Path, walks: list[Any]) -> None:
    run(plan(model, digits, tmp_path))
    first = len(walks)
    assert first == 12
    run(plan(model, digits, tmp_path, values=(2, 3)))
    assert {s.steps for _, s in walks[first:]} == {3}
    for change in ({"seed": 1}, {"n": N + 1}, {"guidance_scale": 2.0}, {"times": {"kind": "karras"}}):
        assert len(plan(model, digits, tmp_path, **change).missing()) == 12, change
    assert not plan(model, digits, tmp_path, batch=3).missing()
    walks.clear()
    one, other = (run(plan(model, digits, tmp_path, features=features)) for features in (Pooled(), Doubled()))
    assert not walks
    for mine, theirs in zip(one["cells"], other["cells"], strict=True):
        assert theirs["frechet"] == pytest.approx(4 * mine["frechet"], rel=1e-6)


def test_other_weights_are_another_study(model: Model, digits: Dataset, tmp_path: Path) -> None:
    run(plan(model, digits, tmp_path))
    parameter = next(model.denoiser.network.parameters())
    with torch.no_grad():
        parameter.add_(1)
    try:
        assert len(plan(model, digits, tmp_path).missing()) == 12
    finally:
        with torch.no_grad():
            parameter.sub_(1)


def test_a_damaged_cell_is_sampled_again(model: Model, digits: Dataset, tmp_path: Path) -> None:
    whole = run(plan(model, digits, tmp_path))
    for path in (tmp_path / "noise").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    assert len(plan(model, digits, tmp_path).missing()) == 12
    assert figures(run(plan(model, digits, tmp_path))) == figures(whole)


def test_real_pictures_are_measured_as_samples_are(digits: Dataset) -> None:
    """Their Fréchet distance is the yardstick's floor, that of noise its ceiling."""
    ground = Ground.of(digits, 100, Pooled())
    real, noise = ground.heldout(tuple(MEASURES)), ground.noise(tuple(MEASURES))
    assert real["frechet"] == pytest.approx(ground.yardstick.floor, rel=1e-9)
    assert noise["frechet"] == pytest.approx(ground.yardstick.ceiling, rel=1e-9)
    assert all((real[name] or 0) > 0.6 for name in ("precision", "recall", "coverage"))
    assert all(noise[name] == 0 for name in ("precision", "recall", "coverage", "density"))
    within, between = real["apart_in_class"], real["apart"]
    assert within is not None and between is not None and 0 < within < 0.9 * between


def test_pictures_without_differences_have_none(digits: Dataset) -> None:
    one = torch.from_numpy(digits.train.media[:1].copy()).expand(20, -1, -1, -1)
    labels = torch.zeros(20, dtype=torch.int64)
    found = Ground.of(digits, 20, Pooled()).figures(one, labels, tuple(MEASURES))
    assert (found["apart"], found["apart_in_class"], found["spread"]) == (0, 0, 0) and (
        found["recall"] or 0
    ) <= 1 / 20
    assert found["contrast"] == pytest.approx(float(one[0].double().std(correction=0)))
    striped = torch.tensor([0, 255], dtype=torch.uint8).repeat(20, 1, 8, 4)
    two = Ground.of(digits, 20, Pooled()).figures(striped, None, ("contrast", "spread"))
    assert two == {"contrast": 127.5, "spread": 0}


def test_the_way_is_the_spread_over_all_batches() -> None:
    x = torch.randn(30, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 5.0]) + 3
    way = Way()
    for rows in (x[:7], x[7:8], x[8:]):
        way.add(torch.tensor(0.25), rows)
    assert way.s == 0.25 and float(way.spread()) == pytest.approx(
        float(x.double().var(0, correction=0).mean().sqrt())
    )


def test_the_expected_spread_is_that_of_the_forward_process(model: Model, digits: Dataset, tmp_path: Path) -> None:
    from carrara.rng import Streams

    made, process = plan(model, digits, tmp_path), model.denoiser.process
    times = torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64)
    x0 = model.codec.encode(torch.from_numpy(digits.train.media[:1000].copy()))
    expected = runner.expected_spread(process.schedule, runner.data_variance(made), times)
    for t, value in zip(times, expected, strict=True):
        x_t, _ = process.corrupt(x0, t, Streams(range(1000)))
        assert float(x_t.double().var(0).mean().sqrt()) == pytest.approx(float(value), rel=0.03)


def test_the_mean_alone_has_too_little_noise_on_its_way(model: Model, digits: Dataset, tmp_path: Path) -> None:
    """From the first step on, whatever the network believes: under flow nothing of x_1's noise is in the posterior's mean."""
    result = run(plan(model, digits, tmp_path, values=(4,)))
    ways = {cell["line"]: cell["path"] for cell in result["cells"]}
    for line, path in ways.items():
        share = path["spread"][0] / path["expected"][0]
        assert share < 0.5 if line == MEAN else 0.7 < share < 1.5, (line, share)


def test_results_and_page_hold_all_cells(model: Model, digits: Dataset, tmp_path: Path) -> None:
    made = plan(model, digits, tmp_path)
    result = run(made)
    assert json.loads(json.dumps(result)) == result and result["values"] == [2, 4]
    assert len(result["cells"]) == 12 and all(
        math.isfinite(cell[m]) for cell in result["cells"] for m in NOISE.measures
    )
    assert result["sampling"]["guidance_scale"] == 1 and "steps" not in result["sampling"]
    page = write_page(NOISE, result, sheets(made), tmp_path / "noise.html").read_text()
    for words in ("no guidance", "mean only", "held out", "eta 0.25", "Recall", "2 steps", "Spread of x_s, 4 steps"):
        assert words in page, words
    assert page.count("data:image/png") == 2 and page.count("<svg") == len(NOISE.measures) + 2
    assert page.count("<tr>") >= 12 + 2


def test_the_sheets_show_several_seeds_of_a_class(model: Model, digits: Dataset, tmp_path: Path) -> None:
    labels = torch.arange(40) % 10
    assert labels[shown(labels, 40)].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert shown(None, 5) == [0, 1, 2, 3, 4] and len(shown(None, 40)) == runner.SHOWN
    made = plan(model, digits, tmp_path)
    run(made)
    per_line = len(shown(made.labels, N))
    for x, pictures in sheets(made).items():
        cell = next(s for c, s in made.cells if c.x == x and c.line == MEAN)
        mine = runner.samples_of(made, cell)["samples"][shown(made.labels, N)]
        assert torch.equal(pictures[5 * per_line :], mine)


def test_progress_rises_to_its_total(model: Model, digits: Dataset, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    run(plan(model, digits, tmp_path, batch=5), lambda *call: calls.append(call))
    for stage in dict.fromkeys(stage for stage, *_ in calls):
        steps = [done for name, done, _ in calls if name == stage]
        assert steps == sorted(steps) and {total for name, _, total in calls if name == stage} == {steps[-1]}
    assert max(total for stage, _, total in calls if stage == runner.SAMPLING) == 6 * N * sum(VALUES)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many": ({"n": 361}, "no more than digits has held-out pictures, 360"),
    "too few": ({"n": 4}, "needs 5 or more"),
    "half a step": ({"values": (2.5,)}, "2.5 is no number of steps"),
    "no step": ({"values": (0.0,)}, "0 is no number of steps"),
    "endless": ({"values": (math.inf,)}, "inf is no number of steps"),
    "nothing": ({"values": ()}, "at least one"),
    "twice": ({"values": (2, 2)}, "different numbers"),
    "what it sets itself": ({"steps": 3}, "the study 'noise' sets steps itself"),
    "an unknown grid": ({"times": {"kind": "karas"}}, "karras"),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_studied_is_refused(
    changes: dict[str, Any], words: str, model: Model, digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        plan(model, digits, tmp_path, **changes)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_process_without_gaussian_noise_is_refused(model: Model, digits: Dataset, tmp_path: Path) -> None:
    class Masked:
        schedule = model.denoiser.process.schedule

    class Other:
        process = Masked()
        network = model.denoiser.network

    other = dataclasses.replace(model, denoiser=Other())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="this model's process is Masked"):
        plan(other, digits, tmp_path)


def test_every_line_of_steps_makes_just_so_many_evaluations(model: Model, digits: Dataset, tmp_path: Path) -> None:
    """Also the one of two evaluations a step, whose last step has one: it has no point at an even number."""
    found = other_plan("steps", model, digits, tmp_path, 3, 6).cells
    assert all(sampling.passes() == cell.x for cell, sampling in found)
    steps = {(cell.line, cell.x): sampling.steps for cell, sampling in found}
    assert steps["ddim", 6] == 6 and steps["heun", 3] == 2 and ("heun", 6) not in steps
    assert {sampling.times["kind"] for cell, sampling in found if cell.line == "adams, logistic"} == {"logistic"}
    with pytest.raises(InputError, match=r"2\.5 is no number of evaluations"):
        other_plan("steps", model, digits, tmp_path, 2.5)


def test_guidance_is_studied_by_what_is_read(model: Model, digits: Dataset, tmp_path: Path) -> None:
    """A cell for each scale, in order; the page draws the Fréchet distance against the share read as asked."""
    asked = other_plan("guidance", model, digits, tmp_path, 3.0, 1.0)
    assert [(cell.x, sampling.guidance_scale) for cell, sampling in asked.cells] == [(1, 1), (3, 3)]
    result = run(asked)
    assert result["heldout"]["read"] > 0.9 and result["noise"]["read"] < 0.5
    assert all(0 <= cell["read"] <= 1 for cell in result["cells"]) and "guidance_scale" not in result["sampling"]
    page = write_page(asked.study, result, sheets(asked), tmp_path / "guidance.html").read_text()
    assert "each scale of guidance" in page and "scale 1 … 3" in page and "share read as asked" in page


@pytest.mark.parametrize("scales", [(), (1.0, 1.0), (-1.0,)])
def test_scales_that_are_none_are_refused(
    model: Model, digits: Dataset, tmp_path: Path, scales: tuple[float, ...]
) -> None:
    with pytest.raises(InputError, match="different scales of 0 or more"):
        other_plan("guidance", model, digits, tmp_path, *scales)


def test_sizes_are_parts_of_one_set_of_samples(
    model: Model, digits: Dataset, tmp_path: Path, walks: list[Any]
) -> None:
    """Sampled once; each size is measured as if it were all there is, against as many held-out pictures."""
    asked = planned(STUDIES["size"], model, digits, tmp_path, n=40, values=[40, 12, 20], features=Pooled(), batch=40)
    assert asked.ways == len(asked.missing()) == 1
    result = run(asked)
    assert [len(seeds) for seeds, _ in walks] == [40] and not asked.missing()
    assert [(cell["x"], cell["n"]) for cell in result["cells"]] == [(12, 12), (20, 20), (40, 40)]
    for cell in result["cells"]:
        alone = frechet(model.sample(cell["n"]), digits, Pooled(), interval=True)
        assert cell["frechet"] == pytest.approx(alone.value) and cell["floor"] == pytest.approx(alone.floor)
        assert (cell["low"], cell["high"]) == pytest.approx((alone.low, alone.high))
        assert cell["infinite"] == pytest.approx(alone.infinite)
    more = planned(STUDIES["size"], model, digits, tmp_path, n=40, values=[15, 40], features=Pooled())
    walks.clear()
    assert run(more)["cells"][-1] == result["cells"][-1] and not walks
    shown = sheets(asked)
    page = write_page(asked.study, result, shown, tmp_path / "size.html").read_text()
    assert (
        list(shown) == [40]
        and "samples, infinite n" in page
        and "guidance 1.5" in page
        and "in the last two rows" in page
    )


def test_the_full_size_is_what_evaluate_says(model: Model, digits: Dataset, tmp_path: Path) -> None:
    asked = planned(STUDIES["size"], model, digits, tmp_path, n=30, features=Pooled())
    found = evaluate(model, digits, 30, ["frechet"], Pooled())["frechet"]
    cell = run(asked)["cells"][-1]
    assert cell["n"] == 30 and cell["frechet"] == pytest.approx(found["value"])
    assert (cell["low"], cell["infinite"]) == pytest.approx((found["low"], found["infinite"]))


def test_sizes_rise_to_n_by_one_factor(digits: Dataset, model: Model, tmp_path: Path) -> None:
    assert sizes(1600) == [100, 200, 400, 800, 1600]
    assert sizes(50)[0] == 10 and sizes(50)[-1] == 50 and sizes(7) == [6, 7]
    asked = planned(STUDIES["size"], model, digits, tmp_path, values=[10, 300], features=Pooled())
    assert asked.n == 300


@pytest.mark.parametrize(
    ("values", "words"), [([5, 10], "6 samples or more"), ([10, 41], "41 of 40"), ([6.5], "whole")]
)
def test_sizes_that_are_none_are_refused(
    model: Model, digits: Dataset, tmp_path: Path, values: list[float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        planned(STUDIES["size"], model, digits, tmp_path, n=40, values=values, features=Pooled())


def test_guidance_needs_a_condition(digits: Dataset, tmp_path: Path) -> None:
    plain = build(read("digits", ["network.width=8", "condition={kind: none}"]), digits.shape, digits.classes)
    with pytest.raises(InputError, match="needs a model with a condition"):
        other_plan("guidance", plain, digits, tmp_path, 1.0)
