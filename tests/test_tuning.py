"""Tuned times of a model: found once for a way of sampling, kept in its folder, and never half-written."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from carrara import files, grids
from carrara.errors import InputError, NonFinite
from carrara.grids import FILE, GRID
from carrara.model import Model, build, load
from carrara.recipe import changed, check
from carrara.samplers import SAMPLERS
from carrara.sampling import Sampling
from carrara.schedules import Flow, LinearBeta
from carrara.times import TUNED, falls, grid
from carrara.tuning import Tuned, tune

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits"},
    "network": {"kind": "unet", "width": 8, "depth": 1, "dropout": 0.5},
    "sampling": {"sampler": "dpmpp_2m", "steps": 3},
}
TIMES = {"kind": TUNED, "points": 4, "evaluations": 4 * (32 + 3 * 40)}


def made(*changes: str, seed: int = 0) -> Model:
    """A model whose every parameter is drawn at random."""
    model = build(check(changed(CONTENT, changes)), (1, 8, 8), ("cat", "dog", "owl"))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk that is taken for the exact one is a shorter one here."""
    monkeypatch.setattr(grids, "tune", partial(tune, fine=32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sampling]]:
    """The settings of every search that is made."""
    made: list[Sampling] = []

    def counted(model: Model, sampling: Sampling, tuning: grids.Tuning) -> Any:
        made.append(sampling)
        return search(model, sampling, tuning)

    search = grids.search
    monkeypatch.setattr(grids, "search", counted)
    yield made


def planned(model: Model, **wishes: Any) -> Sampling:
    return model.plan(2, {"times": TIMES, **wishes})[0]


def test_it_is_found_once_and_read_afterwards(folder: Path, searches: list[Sampling]) -> None:
    model = load(folder)
    found = planned(model)
    times = found.grid(model.denoiser.process.schedule)
    assert falls(times) and len(times) == 4 and found.times["points"] == 4
    assert planned(model) == found
    again = load(folder)
    assert planned(again) == found and len(searches) == 1
    assert torch.equal(again.sample(2, times=TIMES), model.sample(2, times=found.times))
    assert not torch.equal(again.sample(2, times=TIMES), again.sample(2, times={"kind": "uniform"}))
    assert len(searches) == 1


def test_a_film_and_a_walk_have_it_too(folder: Path, searches: list[Sampling]) -> None:
    model = load(folder)
    times = planned(model).times[GRID]
    assert [t for t, _, _ in model.film([1], times=TIMES)] == times
    assert [float(step.t) for step in model.walk([1], None, model.sampling.changed(times=TIMES))] == times[:-1]
    assert len(searches) == 1


DIFFERENT: list[dict[str, Any]] = [
    {"steps": 2},
    {"sampler": "deis"},
    {"sampler": "deis", "options": {"order": 2}},
    {"guidance_scale": 2.0},
    {"guidance_scale": 2.0, "guidance_interval": (0.2, 0.8)},
    {"guidance_scale": 2.0, "guidance_rescale": 0.5},
    {"threshold": {"kind": "static"}},
    {"threshold": {"kind": "static", "bound": 0.5}},
    {"times": {**TIMES, "seed": 1}},
    {"times": {**TIMES, "points": 5}},
    {"times": {**TIMES, "evaluations": 500}},
]


def test_each_way_of_sampling_has_its_own(
    folder: Path, searches: list[Sampling], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlike(denoiser: Any, x: Any, steps: int, *anything: Any, **options: Any) -> Tuned:
        return Tuned(grid("shifted", steps, Flow(), shift=1 + len(searches)), 0.1, 0.2, "uniform", 1, 1)

    monkeypatch.setattr(grids, "tune", unlike)
    model = load(folder)
    planned(model)
    found = [planned(model, **wishes) for wishes in DIFFERENT]
    assert len(searches) == 1 + len(DIFFERENT)
    other = load(folder)
    assert [planned(other, **wishes) for wishes in DIFFERENT] == found and len(searches) == 1 + len(DIFFERENT)


def test_guidance_threshold_and_options_are_what_it_is_tuned_with() -> None:
    model = made()
    plain, guided, bounded = (
        planned(model, **wishes).times[GRID]
        for wishes in ({}, {"guidance_scale": 4.0}, {"threshold": {"kind": "static", "bound": 0.05}})
    )
    assert plain != guided and plain != bounded
    first, second = (planned(model, sampler="adams", options={"order": order}).times[GRID] for order in (1, 2))
    assert first != second


def test_a_model_in_training_is_tuned_without_dropout() -> None:
    evaluated, trained = made(), made()
    evaluated.denoiser.eval()
    trained.denoiser.train()
    assert planned(trained).times == planned(evaluated).times
    assert trained.denoiser.training and not evaluated.denoiser.training


def test_other_weights_have_another(folder: Path, searches: list[Sampling]) -> None:
    planned(load(folder))
    other = load(folder)
    with torch.no_grad():
        next(other.denoiser.parameters()).add_(0.1)
    planned(other)
    assert len(searches) == 2
    entries = json.loads((folder / FILE).read_text())["grids"]
    assert len(entries) == 1, "what was found for weights that are no more is let go"


def test_what_it_was_tuned_on_is_written(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    planned(load(folder))
    (entry,) = json.loads((folder / FILE).read_text())["grids"]
    about = entry["tuned_on"]
    assert (about["points"], about["seed"]) == (4, 0) and {"date", "carrara", "seconds", "untuned"} <= about.keys()
    assert about["error_heldout"] <= about["untuned_error_heldout"]
    assert 4 * 32 < about["evaluations"] <= TIMES["evaluations"]
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("tuning the grid of times for dpmpp_2m with 3 steps, once: about 608 evaluations")
    assert last.endswith(f"kept in {folder / FILE}") and last.startswith("tuned in")
    files.check_folder(folder)


def test_guided_evaluations_count_twice(folder: Path) -> None:
    planned(load(folder), guidance_scale=2.0, times={**TIMES, "evaluations": 600})
    (entry,) = json.loads((folder / FILE).read_text())["grids"]
    assert 4 * 32 < entry["tuned_on"]["evaluations"] <= 300


def test_saving_a_model_keeps_its_grids(folder: Path, searches: list[Sampling]) -> None:
    model = load(folder)
    model.save(folder)
    assert not (folder / FILE).exists()
    planned(model)
    other = load(folder)
    other.facts["noted"] = "yes"
    other.save(folder)
    planned(load(folder))
    assert len(searches) == 1
    files.check_folder(folder)


def test_a_model_never_saved_keeps_it_in_memory(searches: list[Sampling], tmp_path: Path, caplog: Any) -> None:
    model = made()
    assert planned(model) == planned(model) and len(searches) == 1
    assert caplog.messages[-1].endswith("kept in memory only, for this model has not been saved")
    model.save(tmp_path / "model")
    planned(load(tmp_path / "model"))
    assert len(searches) == 1


def test_where_nothing_can_be_written_it_is_kept_in_memory(
    folder: Path, searches: list[Sampling], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*anything: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "write_json", refuse)
    model = load(folder)
    assert planned(model) == planned(model) and len(searches) == 1
    assert f"kept in memory only, for {folder} cannot be written (Permission denied)" in caplog.messages[-1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"grids": 3}',
        '{"grids": [3]}',
        '{"grids": [{"for": {"weights": 1, "steps": 1}, "grid": [1.0, 2.0, 0.0]}]}',
    ],
)
def test_a_damaged_file_is_made_again(
    folder: Path, searches: list[Sampling], content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / FILE).write_text(content)
    found = planned(load(folder))
    assert [m for m in caplog.messages if "is damaged" in m] == [f"{folder / FILE} is damaged; grids are tuned again"]
    assert planned(load(folder)) == found and len(searches) == 1


@pytest.mark.parametrize(
    "grid_of", [[1.0, 0.5, 0.0], [1.0, 0.5, 0.6, 0.0], [0.9, 0.5, 0.2, 0.0], [1.0, float("nan"), 0.2, 0.0]]
)
def test_a_grid_of_the_file_that_is_none_is_not_walked(
    folder: Path, searches: list[Sampling], grid_of: list[float]
) -> None:
    planned(load(folder))
    content = json.loads((folder / FILE).read_text())
    content["grids"][0][GRID] = grid_of
    (folder / FILE).write_text(json.dumps(content))
    assert falls(planned(load(folder)).grid(Flow())) and len(searches) == 2


def test_an_interrupted_search_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def stop() -> Any:
        def report(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if calls == 38:
                raise KeyboardInterrupt

        return report

    monkeypatch.setattr(grids, "now_and_then", stop)
    before = sorted(path.name for path in folder.iterdir())
    model = load(folder)
    model.denoiser.train()
    with pytest.raises(KeyboardInterrupt):
        planned(model)
    assert calls == 38 and sorted(path.name for path in folder.iterdir()) == before
    assert model.grids.known == [] and model.denoiser.training


def test_progress_is_told_now_and_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grids, "EVERY_S", 0.0)
    planned(load(folder))
    told = [message for message in caplog.messages if message.startswith("tuning: ")]
    assert told[0].startswith("tuning: 4 of 608 evaluations, ") and told[0].endswith(" s left at most")


def test_the_search_leaves_torchs_generator_and_gradients_alone(folder: Path) -> None:
    model = load(folder)
    state = torch.random.get_rng_state()
    planned(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled() and all(p.grad is None for p in model.denoiser.parameters())


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_only_samplers_with_a_path_are_tuned(name: str) -> None:
    sampling, entry = Sampling(sampler=name, steps=3, times={"kind": TUNED}), SAMPLERS[name]
    if not entry.stochastic and entry.evaluations is not None:
        sampling.check_times(Flow())
        return
    why = "adds noise" if entry.stochastic else "chooses its own steps"
    with pytest.raises(
        InputError, match=f"times 'tuned' and the sampler '{name}' do not go together: it {why}.*such as adams"
    ):
        sampling.check_times(Flow())


def noisy(denoiser: Any, x: Any, times: Any, cond: Any = None, *, rng: Any = None) -> Any:
    """Somebody's own sampler, which does not declare that it draws noise."""
    yield from SAMPLERS["ancestral"].walk(denoiser, x, times, cond, rng=rng)


def test_an_undeclared_draw_of_noise_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="draws noise on its way"):
        planned(load(folder), sampler=f"{__name__}:noisy")
    assert not (folder / FILE).exists()


def test_what_is_not_finite_is_not_kept(folder: Path) -> None:
    model = load(folder)
    with torch.no_grad():
        next(model.denoiser.parameters()).fill_(float("nan"))
    with pytest.raises(NonFinite, match=r"fine walk.*gave NaN or infinity"):
        planned(model)
    assert not (folder / FILE).exists() and model.grids.known == []


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ({"kinds": 3}, r"has no option 'kinds': .*allowed: evaluations, points, seed"),
        ({"points": 3}, "points of tuned times is 3; it is a whole number of at least 4"),
        ({"points": 8.5}, "points of tuned times is 8.5"),
        ({"points": True}, "points of tuned times is True"),
        ({"seed": -1}, "seed of tuned times is -1; it is a whole number of at least 0"),
        ({"evaluations": 0}, "evaluations of tuned times is 0"),
        ({GRID: [1.0, 0.5, 0.0]}, "the grid in times has 2 steps and 3 were asked for"),
        ({GRID: [1.0, 0.2, 0.5, 0.0]}, "must be times that fall strictly from 1 to 0"),
        ({GRID: "falling"}, "must be times that fall strictly from 1 to 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_computed(
    folder: Path, searches: list[Sampling], times: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        load(folder).plan(1, {"times": {"kind": TUNED, **times}})
    assert not searches


def test_without_a_model_the_way_is_told() -> None:
    for ask in (lambda: Sampling(times={"kind": TUNED}).grid(Flow()), lambda: grid(TUNED, 3, Flow())):
        with pytest.raises(InputError, match=r"kind 'tuned' is found for a model.*carrara\.tuning"):
            ask()
    with pytest.raises(InputError, match="only 1000 discrete steps"):
        Sampling(sampler="ddim", steps=1001, times={"kind": TUNED}).check_times(LinearBeta())


def test_a_recipe_may_ask_for_it_and_a_build_does_not_tune(searches: list[Sampling]) -> None:
    model = made("sampling.times={kind: tuned, points: 4, evaluations: 400}")
    assert model.recipe.to_yaml().count("kind: tuned") == 1 and not searches
    assert model.sampling.untuned() == {"kind": "logsnr"} and made().sampling.untuned() == {"kind": "uniform"}
    model.sample(1)
    assert len(searches) == 1
    with pytest.raises(InputError, match="do not go together"):
        made("sampling.sampler=ancestral", "sampling.times={kind: tuned}")


def test_whole_numbers_may_come_as_floats() -> None:
    assert grids.Tuning.of({"kind": TUNED, "points": 8.0}) == grids.Tuning(points=8)


def test_points_are_asked_for_class_by_class_and_are_those_of_the_seed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def spy(denoiser: Any, x: Any, steps: int, walk: Any, cond: Any = None, **options: Any) -> Any:
        seen.append((x, cond))
        return tune(denoiser, x, steps, walk, cond, fine=32, **options)

    monkeypatch.setattr(grids, "tune", spy)
    model = load(folder)
    planned(model)
    planned(model, times={**TIMES, "seed": 1})
    planned(model, times={**TIMES, "points": 6})
    (one, cond), (other, _), (more, _) = seen
    assert cond["label"].tolist() == [0, 1, 2, 0] and one.shape == (4, 1, 8, 8)
    assert not torch.equal(one, other) and torch.equal(more[:4], one)
