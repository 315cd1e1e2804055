"""What the rows of the quality benchmark come to, and how rates are taken."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from benchmarks.quality import names, reported
from benchmarks.quality_figures import figures, mean_of, ratio
from benchmarks.rivals import rates
from benchmarks.rivals.rates import fastest
from benchmarks.timing import Spread, interleaved, rate

from carrara import files
from carrara.evaluation.measure import Yardstick
from carrara.recipe import read
from carrara.training.run import dataset_of


def row(name: str, seed: int, frechet: float, minutes: float = 8.0) -> dict[str, object]:
    return {"contestant": name, "minutes": minutes, "seed": seed, "frechet": frechet}


ROWS = [
    row("carrara", 0, 10.0),
    row("carrara", 1, 20.0),
    row("carrara", 0, 99.0, minutes=2.0),
    row("diffusers", 0, 60.0),
    row("ddpm_pytorch", 0, 30.0),
    row("diffusers_equal", 0, 90.0),
]


def test_the_ratio_is_to_the_best_peer_and_means_are_over_seeds() -> None:
    found = figures(ROWS, 8.0)
    assert found["frechet_ratio_best_peer"] == 0.5
    assert found["seeds"]["carrara"] == 2
    assert found["means"]["carrara"] == {"2": 99.0, "8": 15.0}


def test_a_missing_peer_gives_no_ratio() -> None:
    assert figures(ROWS, 8.0)["frechet_ratio_equal_parameters"] is None
    assert ratio(None, [1.0]) is None
    assert mean_of(ROWS, "ddpm_pytorch_equal", 8.0) is None


def test_the_fastest_mode_is_that_of_the_best_round_in_images() -> None:
    found = fastest({"a": (16, Spread(2.2, 0.9, 2.4, 3)), "b": (64, Spread(0.5, 0.4, 0.625, 3))})
    assert (found["mode"], found["images_per_s"], found["batch"]) == ("b", 40.0, 64)
    assert found["modes"]["a"] == {"median": 35.2, "least": 14.4, "most": 38.4, "rounds": 3}


def ticks(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


def test_a_rate_counts_the_calls_that_fit() -> None:
    clock = ticks(0.25)
    assert rate(lambda: None, 1.0, lambda: next(clock)) == 4.0
    slow = ticks(2.0)
    assert rate(lambda: None, 1.0, lambda: next(slow)) == 0.5


def test_turns_are_taken() -> None:
    calls: list[str] = []
    clock = ticks(1.0)
    turns = {k: lambda k=k: calls.append(k) for k in "ab"}
    found = interleaved(turns, 2, 1.0, lambda: next(clock), before=lambda name: calls.append(name.upper()))
    assert calls == ["a", "b", "A", "a", "B", "b", "A", "a", "B", "b"]
    assert found["a"] == Spread(1.0, 1.0, 1.0, 2, (1.0, 1.0))


def test_unknown_contestants_are_refused() -> None:
    assert names("carrara,diffusers") == ["carrara", "diffusers"]
    with pytest.raises(argparse.ArgumentTypeError, match="nobody"):
        names("nobody")


def test_our_rate_elsewhere_becomes_what_a_change_costs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is taken from this machine than the ratio of the two ways, round by round."""
    path = tmp_path / "rates.json"
    others = {"diffusers": {"images_per_s": 7.0}}
    files.write_json(path, {"digits": {"carrara": {"mode": "float32 torch", "images_per_s": 100.0}, **others}})
    rounds = {"then": Spread(4.0, 2.0, 4.0, 3, (4.0, 2.0, 4.0)), "now": Spread(2.0, 1.0, 3.0, 3, (2.0, 1.0, 3.0))}
    monkeypatch.setattr(rates, "interleaved", lambda steps, rounds_: {name: rounds[name] for name in steps})
    for _ in range(2):  # The second time it is measured anew, and not slowed down again.
        rates.ours_again(dataset_of(read("digits")), path, ["training.optimiser=adamw"])
    kept = files.read_json(path)["digits"]
    assert kept["carrara"]["images_per_s"] == 50.0
    assert kept["carrara"]["then"]["images_per_s"] == 100.0
    assert kept["diffusers"] == others["diffusers"]


def test_figures_of_another_machine_stand_where_they_are_on_the_same_scale() -> None:
    figure = {"contestant": "diffusers", "minutes": 8.0, "seed": 1, "images": 320, "frechet": 5.0}
    measure = cast(Yardstick, SimpleNamespace(floor=48.8))
    assert reported({"floor": 48.8, "rows": [figure]}, measure) == {("diffusers", 8.0, 1, 320): figure}
    assert reported({"floor": 50.0, "rows": [figure]}, measure) == {}
    assert reported({}, measure) == {}
