"""Names and dotted paths to objects."""

import math
from pathlib import Path

import pytest

from carrara.errors import InputError
from carrara.plugins import find

REGISTRY = {"tau": math.tau, "floor": "math:floor"}


def test_names_paths_in_the_registry_and_paths_of_one_s_own() -> None:
    assert find("number", "tau", REGISTRY) == math.tau
    assert find("number", "floor", REGISTRY) is math.floor
    assert find("number", "math:ceil", REGISTRY) is math.ceil


def test_an_unknown_name_has_a_nearest_spelling() -> None:
    with pytest.raises(
        InputError, match=r"there is no number 'flor': did you mean 'floor'\? allowed: floor, tau; or "
    ):
        find("number", "flor", REGISTRY)


@pytest.mark.parametrize("path", ["no_such_module:x", "math:no_such_name", "math:", ":x"])
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(InputError, match=f"the number '{path}' cannot be imported: "):
        find("number", path, REGISTRY)


def test_a_module_that_lacks_something_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacks_something.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="No module named 'a_package_that_is_not_there'"):
        find("number", "lacks_something:x", REGISTRY)
