from __future__ import annotations

import subprocess
import sys
import types

import pytest

from carrara import data
from carrara.errors import InputError


def test_every_kind_has_a_builder_with_annotated_parameters() -> None:
    for kind in data.DATASETS:
        build = data.builder(kind)
        assert build.__name__ == kind
        assert set(build.__code__.co_varnames[: build.__code__.co_argcount]) <= build.__annotations__.keys()


def test_an_unknown_kind_is_met_with_the_nearest_one() -> None:
    with pytest.raises(
        InputError, match=r"no dataset 'digit': did you mean 'digits'\? allowed: chinese, digits, emoji"
    ):
        data.load("digit")


def test_an_unknown_or_missing_option_is_named() -> None:
    with pytest.raises(InputError, match="no option 'sise'; did you mean 'size'"):
        data.load("emoji", sise=32)
    with pytest.raises(InputError, match="digits has no option 'size'; it has no options"):
        data.load("digits", size=32)
    with pytest.raises(InputError, match="folder needs the option 'path'"):
        data.load("folder", size=32)


def test_a_dotted_path_brings_a_dataset_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = types.ModuleType("my_lab")
    digits = data.load("digits")
    monkeypatch.setattr(lab, "mine", lambda: digits, raising=False)
    monkeypatch.setattr(lab, "wrong", lambda: 3, raising=False)
    monkeypatch.setitem(sys.modules, "my_lab", lab)
    assert data.load("my_lab:mine") is digits
    with pytest.raises(InputError, match=r"my_lab:wrong returned int, not a carrara\.data\.Dataset"):
        data.load("my_lab:wrong")
    for absent in ("my_lab:nothing", "no_such_lab:x"):
        with pytest.raises(InputError, match=f"the dataset '{absent}' cannot be imported"):
            data.load(absent)


def test_neither_naming_nor_loading_a_dataset_imports_torch() -> None:
    code = (
        "import sys; from carrara import data; heavy = {'torch', 'sklearn', 'PIL'} & sys.modules.keys();"
        "data.load('digits'); [data.builder(kind) for kind in data.DATASETS];"
        "print(heavy, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "False"]
