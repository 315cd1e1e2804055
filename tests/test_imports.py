"""Who may import whom."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import carrara

SOURCE = Path(carrara.__file__).parent
MATHEMATICS = {
    "schedules", "processes", "predictions", "weights", "times", "denoisers", "guidance", "rng", "beliefs", "analytic",
    "samplers", "variances", "decoders", "clock", "likelihood", "editing", "tuning",
    "masking", "planning", "tokens", "token_likelihood", "embeddings", "between", "filling",
}  # fmt: skip
SOLVERS = {"samplers.adaptive": {"scipy"}}
"""What lends the mathematics a kept solver, imported when it is used."""
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, `from carrara import x` as carrara.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out in full"
            own = node.module == "carrara"
            yield from (f"carrara.{alias.name}" for alias in node.names) if own else [str(node.module)]


def rooms(name: str) -> set[str]:
    """The rooms of carrara that a module imports from."""
    return {found.split(".")[1] for found in imports(MODULES[name]) if found.startswith("carrara.")}


def of(*names: str) -> list[str]:
    return [module for module in MODULES if module.split(".")[0] in names]


def test_the_walk_has_found_the_house() -> None:
    assert {"samplers.ode", "networks.unet", "cli.app", "training.run", "__main__", "", "cli"} <= MODULES.keys()
    assert "rng" in rooms("samplers.ode") and set(imports(MODULES["rng"])) >= {"torch", "carrara.errors"}
    assert len(of(*MATHEMATICS)) >= 14


@pytest.mark.parametrize("name", of(*MATHEMATICS))
def test_the_mathematics_imports_torch_and_itself(name: str) -> None:
    assert rooms(name) <= MATHEMATICS | {"errors"}
    others = {found.split(".")[0] for found in imports(MODULES[name])} - {"carrara", "torch"}
    assert others <= sys.stdlib_module_names | SOLVERS.get(name, set())


@pytest.mark.parametrize("name", of("networks"))
def test_networks_know_no_diffusion(name: str) -> None:
    assert rooms(name) <= {"networks", "native", "errors"}


@pytest.mark.parametrize("name", of("denoisers", "codecs", "conditions"))
def test_networks_are_given_and_not_imported(name: str) -> None:
    assert "networks" not in rooms(name)


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] not in ("cli", "__main__")])
def test_nothing_imports_the_command_line(name: str) -> None:
    assert not rooms(name) & {"cli", "serving", "studio"}


@pytest.mark.parametrize("words", [["-c", "import carrara"], ["-m", "carrara", "--help"]])
def test_torch_is_not_imported_before_it_is_needed(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True)
    imported = {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
    }
    assert "carrara" in imported
    assert not imported & {"torch", "numpy", "sklearn", "matplotlib", "pydantic"}


def test_the_public_names_are_told_once() -> None:
    assert set(carrara._HOME) | {"__version__"} == set(carrara.__all__) == set(dir(carrara))
    assert len(set(carrara.__all__)) == len(carrara.__all__)
    # As ruff sorts them: constants, classes, the rest.
    rank = {True: 0}
    order = sorted(carrara.__all__, key=lambda n: (rank.get(n.isupper(), 1 if n[0].isupper() else 2), n))
    assert order == carrara.__all__


def test_the_typed_names_are_the_public_ones() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert typed == {name: f"carrara.{home}" for name, home in carrara._HOME.items()}


@pytest.mark.parametrize("name", carrara.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(carrara, name)
    if name != "__version__":
        home = importlib.import_module(f"carrara.{carrara._HOME[name]}")
        assert value is getattr(home, name)


def test_an_unknown_name_is_none() -> None:
    with pytest.raises(AttributeError, match="module 'carrara' has no attribute 'Modell'"):
        carrara.Modell  # noqa: B018
