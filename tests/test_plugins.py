"""Names and dotted paths to objects."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import carrara
from carrara import files, plugins
from carrara.errors import InputError
from carrara.model import DESCRIPTION, build
from carrara.plugins import check_known, find, named
from carrara.recipe import read

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


def foreign(folder: Path, section: str, options: Any) -> Path:
    """A model folder whose recipe names code, its hashes right."""
    model = build(read("digits", ["network={kind: unet, width: 8, depth: 1}"]), (1, 8, 8), tuple("0123456789"))
    model.save(folder / "plain")
    about = json.loads((folder / "plain" / DESCRIPTION).read_text())
    about["recipe"][section] = {**about["recipe"][section], **options}

    def fill(staging: Path) -> None:
        for name in ("network.safetensors", "README.md"):
            (staging / name).write_bytes((folder / "plain" / name).read_bytes())
        files.write_json(staging / DESCRIPTION, about)

    files.write_folder(folder / "foreign", fill)
    return folder / "foreign"


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("codec", {"kind": "os:system"}),
        ("network", {"kind": "subprocess:getoutput", "cmd": "true"}),
        ("weight", {"kind": "os:system"}),
        ("sampling", {"sampler": "os:system"}),
        ("data", {"kind": "os:system"}),
        ("condition", {"kind": "source", "codec": {"kind": "os:system"}}),
        ("condition", {"kind": "text", "encoder": "os:system"}),
    ],
)
def test_code_that_a_model_folder_names_is_not_run(tmp_path: Path, section: str, options: Any) -> None:
    """Of modules that have been imported too."""
    folder = foreign(tmp_path, section, options)
    with pytest.raises(
        InputError, match=r"foreign names code that is not carrara's: (os:system|subprocess:getoutput)\. "
    ):
        carrara.load(folder)
    with pytest.raises(InputError, match="names code"):
        carrara.load(folder)


def test_nor_at_the_command_line(tmp_path: Path) -> None:
    folder = foreign(tmp_path, "weight", {"kind": "os:mkdir", "path": str(tmp_path / "made")})
    done = subprocess.run(
        [sys.executable, "-m", "carrara", "sample", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "CARRARA_PLUGINS=os" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


def test_code_that_is_known_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Because the environment says so, of all that is inside a module, or because it was asked for here."""
    content = {"network": {"kind": "mine.parts:Net"}, "sampling": {"sampler": "euler"}}
    for allowed in ("mine", "other, mine.parts"):
        monkeypatch.setenv("CARRARA_PLUGINS", allowed)
        check_known(content, tmp_path)
    for other in ("", "min", "mine.parts.deep", "parts"):
        monkeypatch.setenv("CARRARA_PLUGINS", other)
        with pytest.raises(InputError, match=r"mine\.parts:Net"):
            check_known(content, tmp_path)
    monkeypatch.setattr(plugins, "_asked", set())
    monkeypatch.delenv("CARRARA_PLUGINS")
    for _ in range(2):
        with pytest.raises(InputError, match="names code"):
            check_known({"kind": "math:ceil"}, tmp_path)
    find("number", "math:ceil", REGISTRY)
    check_known({"kind": "math:ceil"}, tmp_path)


def test_paths_are_found_wherever_they_stand() -> None:
    content = {"a": [{"kind": "m:x"}], "b": {"c": {"encoder": "n:y"}}, "sampler": "o:z", "data": {"path": "p:q"}}
    assert sorted(named(content)) == ["m:x", "n:y", "o:z"]
    assert list(named({"encoder": "/a/folder:of/mine", "kind": "unet"})) == []
