"""Errors as one sentence and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback

import typer

from carrara.cli.voice import State, first
from carrara.errors import CarraraError, InputError

INTERRUPTED = 130
BROKEN_PIPE = 141

# Of the usage errors typer re-exports one, whose bases come from click or from typer itself, as its version has it.
UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def failed(error: BaseException, state: State) -> int:
    """Shows the error and returns the exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return interrupted(state)
    if isinstance(error, UsageError):
        return told(_usage(error), 2, state)
    if state.debug:
        traceback.print_exception(error)
    if isinstance(error, CarraraError):
        return told(_line(error), error.exit_code, state, silent=isinstance(error, InputError) and not first())
    hint = "" if state.debug else "; run again with --debug for the traceback"
    return told(f"unexpected {type(error).__name__}: {_line(error)}{hint}", 1, state)


def interrupted(state: State) -> int:
    """What Ctrl-C says where nothing had to be saved."""
    return told("interrupted", INTERRUPTED, state)


def told(sentence: str, exit_code: int, state: State, silent: bool = False) -> int:
    """The sentence on stderr and, with --json, an object on stdout; how to go on where that is possible."""
    if silent or (exit_code > 128 and not first()):
        return exit_code
    going_on = {"goes_on": state.command} if state.goes_on and exit_code > 128 else {}
    typer.echo(f"carrara: {sentence}", err=True)
    if going_on:
        typer.echo(f"The same command goes on: {state.command}", err=True)
    if state.json:
        typer.echo(json.dumps({"error": sentence, "exit_code": exit_code, **going_on}, ensure_ascii=False))
    return exit_code


def hushed() -> int:
    """Whoever read stdout has gone: nothing more can be said, nor flushed when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return BROKEN_PIPE


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _usage(error: Exception) -> str:
    """Typer's sentence in this house's style, with the nearest spelling and where to read on."""
    text = _line_of_usage(error)
    near = getattr(error, "possibilities", None)
    if near:
        text = f"{text.partition(' (Possible')[0]}: did you mean {near[0]}?"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "carrara"
    return f"{text[:1].lower()}{text[1:].rstrip('.')} (see {path} --help)"


def _line_of_usage(error: Exception) -> str:
    words: str = error.format_message()  # type: ignore[attr-defined]  # Of click's exceptions and typer's own alike.
    return " ".join(words.split())
