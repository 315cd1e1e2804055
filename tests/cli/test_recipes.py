"""`carrara recipe`: listed, shown and checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from carrara.cli.names import recipes

Run = Callable[..., Any]


def test_each_recipe_is_listed_with_what_it_is(carrara: Run) -> None:
    lines = carrara("recipe", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == recipes() and all(len(line) > 40 for line in lines)
    found = carrara("recipe", "list", "--json").json["recipes"]
    assert [entry["name"] for entry in found] == recipes() and all(entry["description"] for entry in found)


@pytest.mark.parametrize("name", recipes())
def test_what_is_shown_is_the_recipe_itself(carrara: Run, here: Path, name: str) -> None:
    shown = carrara("recipe", "show", name).out
    (here / "mine.yaml").write_text(shown)
    assert carrara("recipe", "show", "mine.yaml").out == shown
    assert carrara("recipe", "show", name, "--json").json == yaml.safe_load(shown)
    assert carrara("recipe", "check", "mine.yaml").out == f"mine.yaml is a whole recipe: {name}\n"


def test_changes_are_shown(carrara: Run) -> None:
    shown = carrara("recipe", "show", "digits", "--set", "network.width=24", "--set", "seed=3", "--json").json
    assert shown["network"]["width"] == 24 and shown["seed"] == 3


def test_checked_in_json(carrara: Run, here: Path) -> None:
    (here / "mine.yaml").write_text("name: mine\ndata: {kind: digits}")
    assert carrara("recipe", "check", "mine.yaml", "--json").json == {"file": "mine.yaml", "name": "mine", "ok": True}
