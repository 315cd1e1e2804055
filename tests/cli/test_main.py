"""The command line as a whole: what it offers, how it fails, how soon it answers."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import carrara as package
from carrara.cli import names
from carrara.cli.app import app
from carrara.cli.voice import State

SURFACE = """
carrara --debug
carrara --help -h
carrara --install-completion
carrara --show-completion
carrara --version
carrara average --help -h
carrara average --images
carrara average --json
carrara average --length
carrara average --out
carrara average --overwrite
carrara average RUN
carrara compare --backend
carrara compare --batch
carrara compare --count -n
carrara compare --eta
carrara compare --features
carrara compare --guidance-scale
carrara compare --help -h
carrara compare --json
carrara compare --out
carrara compare --reference
carrara compare --sampler
carrara compare --seed
carrara compare --size
carrara compare --steps
carrara compare --times
carrara compare THINGS
carrara data --help -h
carrara data --json
carrara data --out
carrara data --overwrite
carrara data --set
carrara data WHAT
carrara encode --help -h
carrara encode --json
carrara encode --set
carrara encode WHAT
carrara evaluate --backend
carrara evaluate --batch
carrara evaluate --clip
carrara evaluate --count -n
carrara evaluate --eta
carrara evaluate --features
carrara evaluate --guidance-scale
carrara evaluate --help -h
carrara evaluate --json
carrara evaluate --judge
carrara evaluate --metrics
carrara evaluate --reference
carrara evaluate --sampler
carrara evaluate --seed
carrara evaluate --steps
carrara evaluate --study
carrara evaluate --times
carrara evaluate --values
carrara evaluate --write-statistics
carrara evaluate PATH
carrara recipe --help -h
carrara recipe check --help -h
carrara recipe check --json
carrara recipe check FILE
carrara recipe list --help -h
carrara recipe list --json
carrara recipe show --help -h
carrara recipe show --json
carrara recipe show --set
carrara recipe show NAME
carrara sample --backend
carrara sample --batch
carrara sample --between
carrara sample --count -n
carrara sample --eta
carrara sample --gif
carrara sample --guidance-interval
carrara sample --guidance-rescale
carrara sample --guidance-scale
carrara sample --help -h
carrara sample --html
carrara sample --json
carrara sample --label
carrara sample --mask
carrara sample --negative-prompt
carrara sample --out
carrara sample --overwrite
carrara sample --prompt
carrara sample --prompts
carrara sample --sampler
carrara sample --seed
carrara sample --seeds
carrara sample --source
carrara sample --start
carrara sample --steps
carrara sample --strength
carrara sample --temperature
carrara sample --threshold
carrara sample --times
carrara sample --top-k
carrara sample --top-p
carrara sample PATH
carrara train --from
carrara train --help -h
carrara train --images
carrara train --json
carrara train --minutes
carrara train --out
carrara train --seed
carrara train --set
carrara train --teacher
carrara train RECIPE
"""
HEAVY = {"torch", "numpy", "pydantic", "matplotlib", "scipy", "sklearn", "PIL", "yaml", "rich"}
COMMANDS = (
    "train",
    "sample",
    "evaluate",
    "compare",
    "average",
    "encode",
    "data",
    "recipe",
    "recipe list",
    "recipe show",
    "recipe check",
)
HELP_S = 0.3


def surface(command: Any, path: str) -> Iterator[str]:
    from typer.core import TyperArgument

    for parameter in command.params:
        argument = isinstance(parameter, TyperArgument)
        yield f"{path} {parameter.name.upper()}" if argument else f"{path} {' '.join(sorted(parameter.opts))}"
    yield f"{path} --help -h"
    for name, sub in getattr(command, "commands", {}).items():
        yield from surface(sub, f"{path} {name}")


def imported(*words: str, **env: str) -> tuple[set[str], str]:
    """The top-level modules that a fresh `python -m carrara` imports, and its stdout."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "carrara", *words],
        capture_output=True,
        text=True,
        env={**dict(__import__("os").environ), **env},
    )
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}, (
        done.stdout
    )


def test_the_options_of_all_commands_change_only_on_purpose() -> None:
    assert sorted(surface(get_command(app), "carrara")) == SURFACE.split("\n")[1:-1]


def test_names_in_help_and_completion_are_those_of_the_registries() -> None:
    from carrara.backends import BACKENDS
    from carrara.data import DATASETS
    from carrara.evaluation.features import FEATURES
    from carrara.evaluation.metrics import METRICS, TEXT_METRICS
    from carrara.recipe import names as recipes
    from carrara.samplers import SAMPLERS
    from carrara.times import GRIDS, TUNED

    for shown, registry in (
        (names.SAMPLERS, SAMPLERS),
        (names.TIMES, {*GRIDS, TUNED}),
        (names.BACKENDS, BACKENDS),
        (names.FEATURES, FEATURES),
        (names.METRICS, METRICS),
        (names.TEXT_METRICS, TEXT_METRICS),
        (names.DATASETS, DATASETS),
        (names.recipes(), recipes()),
    ):
        assert list(shown) == sorted(registry)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_nothing_heavy(command: str) -> None:
    modules, out = imported(*command.split(), "--help")
    assert out.startswith(f"Usage: carrara {command}".rstrip()) and "typer" in modules
    assert not HEAVY & modules


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_what_typer_says(carrara: Callable[..., Any], command: str) -> None:
    said = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="carrara")
    assert said.exit_code == 0
    for words in ([*command.split(), "--help"], ["--debug", *command.split(), "-h"]):
        # Typer's test runner has lines of another width.
        assert (carrara(*words).code, carrara(*words).out.split()) == (0, said.stdout.split())


def test_help_for_what_is_not_there_is_refused(carrara: Callable[..., Any]) -> None:
    assert carrara("tran", "--help").code == 2 and carrara("recipe", "lst", "--help").code == 2


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "carrara", "train", "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    # The fastest of some: how long it takes where nothing else is running.
    assert any(seconds() <= HELP_S for _ in range(20))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("carrara tr", {"train"}),
        ("carrara train d", {"ddpm-fashion", "diffusion-lm-verse", "digits", "distill"}),
        ("carrara data f", {"fashion", "fashion-dit", "fashion-latent", "folder"}),
        ("carrara sample x --sampler h", {"heun"}),
        ("carrara evaluate x --metrics classes,f", {"classes,frechet"}),
    ],
)
def test_completion_imports_neither_torch_nor_numpy(typed: str, offered: set[str]) -> None:
    where = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    modules, out = imported(_CARRARA_COMPLETE="complete_bash", _TYPER_COMPLETE_ARGS=typed, **where)
    assert set(out.split()) == offered
    assert not (HEAVY - {"pydantic", "rich"}) & modules


def test_yaml_files_and_folders_are_completed(here: Path) -> None:
    for name in ("my.yaml", "other.txt"):
        (here / name).touch()
    (here / "myriad").mkdir()
    assert names.complete_recipe("my") == ["my.yaml", "myriad/"]


def test_version(carrara: Callable[..., Any]) -> None:
    assert carrara("--version").out == f"carrara {package.__version__}\n"


def test_no_word_at_all_asks_for_help(carrara: Callable[..., Any]) -> None:
    assert carrara() == carrara("--help") and carrara().code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "train digits --minuts 3",
            r"no such option: --minuts: did you mean --minutes\? \(see carrara train --help\)",
        ),
        ("tran digits", r"no such command 'tran'. Did you mean 'train'\? \(see carrara --help\)"),
        ("train", r"missing argument 'RECIPE' \(see carrara train --help\)"),
        ("train digits --minutes soon", r"invalid value for '--minutes': .*number.*"),
        ("sample x --batch 0", r"invalid value for '--batch': .*"),
        ("recipe lst", r"no such command 'lst'. Did you mean 'list'\? \(see carrara recipe --help\)"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_misuse_is_one_line_and_exit_code_2(
    carrara: Callable[..., Any], words: str, said: str, as_json: bool
) -> None:
    done = carrara(*words.split(), *["--json"] * as_json)
    assert done.code == 2 and re.fullmatch(f"carrara: {said}\n", done.err)
    if as_json:
        assert done.json == {"error": done.err[len("carrara: ") : -1], "exit_code": 2}
    else:
        assert not done.out


def test_a_group_without_its_command_says_so(carrara: Callable[..., Any]) -> None:
    done = carrara("recipe")
    assert (done.code, done.err) == (2, "carrara: missing command (see carrara recipe --help)\n")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """broken(act): whatever loads a model acts so instead."""

    def set_act(act: Callable[[], None]) -> None:
        monkeypatch.setattr("carrara.model.load", lambda *_, **__: act())

    return set_act


def test_an_unexpected_error_is_one_line_too(carrara: Callable[..., Any], broken: Callable[..., None]) -> None:
    def act() -> None:
        raise ZeroDivisionError("one\n  two")

    broken(act)
    done = carrara("sample", "x", "--json")
    sentence = "unexpected ZeroDivisionError: one two; run again with --debug for the traceback"
    assert done.code == 1 and done.err == f"carrara: {sentence}\n"
    assert done.json == {"error": sentence, "exit_code": 1}


@pytest.mark.parametrize("words", [("--debug", "sample", "x"), ("sample", "x", "--debug")])
def test_debug_may_stand_anywhere(
    carrara: Callable[..., Any], broken: Callable[..., None], words: tuple[str, ...]
) -> None:
    def act() -> None:
        raise ZeroDivisionError("one")

    broken(act)
    done = carrara(*words)
    assert done.code == 1 and done.err.startswith("Traceback") and "in act" in done.err
    assert done.err.endswith("carrara: unexpected ZeroDivisionError: one\n")


def test_a_word_after_two_dashes_is_no_option() -> None:
    assert State.of(["sample", "--", "--debug"]).arguments == ("sample", "--", "--debug")
    assert not State.of(["sample", "--", "--json"]).json


def test_ctrl_c_has_an_exit_code_of_its_own(carrara: Callable[..., Any], broken: Callable[..., None]) -> None:
    def act() -> None:
        raise KeyboardInterrupt

    broken(act)
    done = carrara("sample", "x", "--json")
    assert done.code == 130 and done.err == "carrara: interrupted\n"
    assert done.json == {"error": "interrupted", "exit_code": 130}


def test_warnings_are_single_lines_and_stdout_stays_json(
    carrara: Callable[..., Any], broken: Callable[..., None]
) -> None:
    def act() -> None:
        warnings.simplefilter("default")
        warnings.warn("this is\nold", UserWarning, stacklevel=1)
        logging.getLogger("carrara.somewhere").warning("that is\n%s", "damaged")
        raise ZeroDivisionError

    broken(act)
    before = logging.getLogger("carrara").handlers[:]
    done = carrara("sample", "x", "--json")
    assert done.err.splitlines()[:2] == ["carrara: UserWarning: this is old", "carrara: that is damaged"]
    assert done.json["exit_code"] == 1 and logging.getLogger("carrara").handlers == before


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "carrara", "recipe", "show", "digits"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() != 0


def test_python_m_carrara_is_carrara(carrara: Callable[..., Any]) -> None:
    done = subprocess.run([sys.executable, "-m", "carrara", "recipe", "list"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, carrara("recipe", "list").out)
