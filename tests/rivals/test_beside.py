"""What benchmarks of two models share: minutes as images, ways in turns, and who is judged by what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks import lengths, maskgit
from benchmarks.lengths import changed, images
from benchmarks.ways import Way, made


def test_minutes_are_whole_batches_of_images_and_at_least_one() -> None:
    rate = {"images_per_s": 100.0, "batch": 64}
    assert images(rate, 2) == 188 * 64  # 12,000 images are 187.5 batches
    assert images(rate, 0.0001) == 64


def test_changes_are_made_to_every_recipe() -> None:
    assert changed({"a": ["verse"], "b": ["ar-verse", "--set", "seed=1"]}, ["network.depth=2"]) == {
        "a": ["verse", "--set", "network.depth=2"],
        "b": ["ar-verse", "--set", "seed=1", "--set", "network.depth=2"],
    }


class Counted:
    """Samples that are their seeds."""

    class codec:  # noqa: N801
        @staticmethod
        def together(parts: Any) -> list[int]:
            return [seed for part in parts for seed in part]

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], dict[str, Any]]] = []

    def sample(self, seeds: range, batch: int, **wishes: Any) -> list[int]:
        self.asked.append((list(seeds), wishes))
        return list(seeds)


def test_each_way_makes_every_sample_once_in_turns_with_the_others() -> None:
    model: Any = Counted()
    ways = {"one": Way("m", {"steps": 1}), "two": Way("m", {"steps": 2})}
    found = made({"m": model}, ways, 7, 3, 4, lambda seeds: {"label": len(seeds)})
    assert {name: each.samples for name, each in found.items()} == {name: list(range(7)) for name in ways}
    steps = [wishes["steps"] for _, wishes in model.asked]
    assert steps == [1, 2, *[1, 2] * 3]  # a batch of each to warm up, and then the rounds
    assert all(wishes["label"] == len(seeds) for seeds, wishes in model.asked)
    assert found["one"].per_s.rounds == 3


def test_masks_are_judged_by_their_best_way_within_the_evaluations_and_the_other_by_its_best() -> None:
    def figures(frechet: float, evaluations: int) -> dict[str, Any]:
        return {"frechet": frechet, "evaluations": evaluations, "images_per_s": {"median": 100 / evaluations}}

    found = {name: figures(100.0, 12) for name in maskgit.WAYS}
    ours = [name for name, way in maskgit.WAYS.items() if way.model == "masked"]
    planned = [name for name, way in maskgit.WAYS.items() if way.model == "planned"]
    theirs = [name for name, way in maskgit.WAYS.items() if way.model == "ar"]
    found |= {ours[0]: figures(50.0, maskgit.MOST + 1), ours[1]: figures(80.0, 8), theirs[1]: figures(64.0, 98)}
    found |= {planned[0]: figures(72.0, 12), planned[1]: figures(48.0, 24)}
    best = {side: maskgit.best_of(found, side) for side in maskgit.RECIPES}
    assert best == {"masked": ours[1], "planned": planned[0], "ar": theirs[1]}
    speeds = {ours[1]: {"median": 30.0}, planned[0]: {"median": 40.0}, theirs[1]: {"median": 10.0}}
    compared = maskgit.compared(found, best, speeds)
    chance = {"fid_over_ar": 1.25, "speed_over_ar": 3.0, "speed_over_ar_in_batches": 98 / 8, "evaluations": 8}
    plan = {"fid_over_ar": 1.125, "speed_over_ar": 4.0, "speed_over_ar_in_batches": 98 / 12, "evaluations": 12}
    assert compared["over_ar"] == {"masked": pytest.approx(chance), "planned": pytest.approx(plan)}
    assert {name: compared[name] for name in plan} == compared["over_ar"]["planned"]


def test_rates_that_are_kept_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that comes later, or is another by now, is measured by itself."""
    asked: list[list[str]] = []

    def raced(recipes: dict[str, list[str]], ways: Any) -> dict[str, Any]:
        asked.append(list(recipes))
        return {name: {"words": words, "images_per_s": 10.0 * len(asked)} for name, words in recipes.items()}

    monkeypatch.setattr(lengths, "raced", raced)
    one, two, other = {"a": ["x"]}, {"a": ["x"], "b": ["y"]}, {"a": ["z"], "b": ["y"]}
    found = [lengths.rates(recipes, tmp_path / "rates.json") for recipes in (one, two, two, other)]
    assert asked == [["a"], ["b"], ["a"]]
    speeds = [[each[name]["images_per_s"] for name in "ab" if name in each] for each in found]
    assert speeds == [[10.0], [10.0, 20.0], [10.0, 20.0], [30.0, 20.0]]
