"""How a command speaks: to a terminal, in plain lines, or in JSON."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

EVERY_S = 10.0
"""Seconds between the plain lines of a long piece of work."""

LEVEL = logging.WARNING

Glimpse = Callable[[], str | None]
"""What there is to be seen of a work, as lines; asked only where it is shown."""


class Report(Protocol):
    """What a long piece of work tells how far it is."""

    def __call__(self, stage: str, done: int, total: int, glimpse: Glimpse | None = None) -> None: ...


@dataclass
class State:
    """What the command line as a whole was given."""

    arguments: tuple[str, ...]
    """Its words, `--debug` moved to the front, where typer expects it."""
    command: str
    """The line that was typed, quoted for a shell."""
    debug: bool
    json: bool
    goes_on: bool = False
    """Whether the same command, given again, goes on from where it was stopped."""

    @classmethod
    def of(cls, words: Sequence[str]) -> State:
        """The State of these words; `--debug` may stand anywhere, and nothing at all asks for help."""
        options = words[: words.index("--")] if "--" in words else words
        debug = "--debug" in options
        rest = [word for word in options if word != "--debug"]
        arguments = [*["--debug"] * debug, *(rest or ["--help"]), *words[len(options) :]]
        return cls(tuple(arguments), shlex.join(["carrara", *words]), debug, "--json" in options)


def first() -> bool:
    """Whether this is the process that speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


class Voice:
    """Where a command's words go. Of the processes of a distributed run only the first has one."""

    def __init__(self, as_json: bool = False) -> None:
        self.json, self.quiet = as_json, not first()

    def say(self, text: str = "") -> None:
        """A line for people, on stdout; nothing where JSON was asked for."""
        if not (self.json or self.quiet):
            typer.echo(text)

    def tell(self, **facts: Any) -> None:
        """One JSON object in one line, where JSON was asked for."""
        if self.json and not self.quiet:
            typer.echo(json.dumps(facts, ensure_ascii=False, default=str))

    def show(self, renderable: Any) -> None:
        """A table, for people; without the blanks that would fill its last column."""
        if not (self.json or self.quiet):
            wide = console()
            with wide.capture() as captured:
                wide.print(renderable)
            for line in captured.get().splitlines():
                typer.echo(line.rstrip())

    @contextmanager
    def counting(self) -> Iterator[Report]:
        """Within, a function of (what is being done, done, total): a bar a stage, or a plain line now and then.

        Progress is for people: it goes to stdout, or to stderr where stdout holds JSON. A fourth argument, a function, gives
        lines to be shown above the bars on a stdout where they can move.
        """
        if self.quiet:
            yield lambda stage, done, total, glimpse=None: None
        elif animated(stderr=self.json):
            with _bars(self.json) as report:
                yield report
        else:
            yield _Lines(self.json).report

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Within, says what takes its time, where a line can be taken back."""
        if self.quiet or not animated(self.json):
            yield
        else:
            with console(self.json).status(doing):
                yield


def console(stderr: bool = False) -> Console:
    """A rich console on stdout or stderr; a line that is too long for a pipe is not broken."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # Rich would end the process here and now.

    stream = sys.stderr if stderr else sys.stdout
    return Patient(stderr=stderr, highlight=False, width=None if stream.isatty() else 200)


def animated(stderr: bool = False) -> bool:
    """Whether a bar can move there."""
    return (sys.stderr if stderr else sys.stdout).isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@contextmanager
def _bars(stderr: bool) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def __init__(self) -> None:
            super().__init__("")

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.1f}/s")

    class Below(Progress):
        """Bars, and above them what there is to be seen, as far as the screen has room for it."""

        seen: str | None = None

        def get_renderables(self) -> Iterator[Any]:
            if self.seen is not None:
                lines = Text(self.seen).wrap(self.console, self.console.width)
                yield Text("\n").join(lines[: max(1, self.console.height - 4)])
            yield from super().get_renderables()

    text, rest = TextColumn("{task.description}"), TimeRemainingColumn()
    columns = (text, BarColumn(), MofNCompleteColumn(), Rate(), rest)
    with Below(*columns, console=console(stderr), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, glimpse: Glimpse | None = None) -> None:
            begins = stage not in tasks
            if begins:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.seen = None if stderr or glimpse is None else glimpse()
            progress.update(tasks[stage], completed=done, total=total, refresh=begins)

        yield report


def pace(done: int, left: int, seconds: float) -> str:
    """How fast it goes and how long it will take, in words; nothing where that is not known yet."""
    if done <= 0 or seconds <= 0:
        return ""
    rest = round(left * seconds / done)
    hours, minutes = rest // 3600, rest % 3600 // 60
    length = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest % 60} s" if minutes else f"{rest} s"
    return f", {done / seconds:,.1f} a second" + (f", {length} left" if left else "")


class _Lines:
    """Plain lines of progress, one every EVERY_S seconds at most."""

    def __init__(self, stderr: bool) -> None:
        self.stderr, self.last = stderr, time.monotonic()
        self.began: dict[str, tuple[float, int]] = {}
        """Of each stage, when it was first heard of and how much was done then."""

    def report(self, stage: str, done: int, total: int, glimpse: Glimpse | None = None) -> None:
        now = time.monotonic()
        start, first = self.began.setdefault(stage, (now, done))
        if now - self.last >= EVERY_S:
            self.last = now
            typer.echo(
                f"{stage}: {done:,} of {total:,}{pace(done - first, total - done, now - start)}", err=self.stderr
            )


class _Plain(logging.Handler):
    """Each record as a line on whatever stderr is now: a moving bar puts its own in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(f"carrara: {' '.join(record.getMessage().split())}", err=True)


@contextmanager
def plain_warnings(debug: bool) -> Iterator[None]:
    """Within, the package's warnings and Python's are single lines on stderr; with `debug` Python's show their place."""
    log, handler = logging.getLogger("carrara"), _Plain(LEVEL)

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        typer.echo(f"carrara: {category.__name__}: {' '.join(str(message).split())}", err=True)

    log.addHandler(handler)
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = show  # type: ignore[assignment]  # The rest of the arguments is the place.
        try:
            yield
        finally:
            log.removeHandler(handler)
