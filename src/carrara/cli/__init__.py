"""The command line: `carrara train`, `sample`, `evaluate`, `compare`, `data` and `recipe`.

    argv ──► main ──► typer ──► a command ──► the library ──► Voice: a terminal, plain lines or JSON
              └── every error becomes one sentence on stderr and an exit code (failures.py)

Exit codes: 0 done, 1 the work failed, 2 what was given cannot be used, 130 and 143 stopped by SIGINT and SIGTERM.
With --json stdout holds JSON only: one object, or for `train` one a line; an error is {"error": …, "exit_code": …} there,
and its sentence still goes to stderr. What is not needed for --help is imported inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from carrara.cli.failures import INTERRUPTED, failed, hushed, interrupted
from carrara.cli.threads import rest_when_idle
from carrara.cli.voice import State, plain_warnings

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; `argv` is without the program's name."""
    state = State.of(list(sys.argv[1:] if argv is None else argv))
    rest_when_idle()
    try:
        with plain_warnings(state.debug):
            return _guarded(state)
    except BrokenPipeError:
        return hushed()


def _guarded(state: State) -> int:
    """The command's exit code, its errors shown."""
    try:
        code = _run(state)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        raise
    except BaseException as error:
        return failed(error, state)
    # Typer turns a KeyboardInterrupt into this code.
    return interrupted(state) if code == INTERRUPTED else code


def _run(state: State) -> int:
    """What the command gives; its errors are raised, not shown."""
    import typer

    from carrara.cli.app import command, help_of

    help_text = help_of(state.arguments)
    if help_text is not None:
        typer.echo(help_text)
        return 0
    result: Any = command().main(list(state.arguments), prog_name="carrara", standalone_mode=False, obj=state)
    return result if isinstance(result, int) else 0
