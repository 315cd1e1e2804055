"""The typer application: its global options and its commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from carrara import __version__
from carrara.cli import average, compare, data, encode, evaluate, recipes, sample, train

HELP = ("-h", "--help")

app = typer.Typer(
    name="carrara",
    help="Train, sample and measure diffusion models: on a laptop's CPU first.",
    epilog="A first model in a minute: carrara train digits --minutes 1",
    rich_markup_mode=None,
    context_settings={"help_option_names": list(HELP)},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"carrara {__version__}")
        raise typer.Exit


@app.callback()
def _carrara(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere in the line.")
    ] = False,
) -> None:
    """Train, sample and measure diffusion models: on a laptop's CPU first."""


app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("average")(average.average)
app.command("encode")(encode.encode)
app.command("data")(data.data)
app.add_typer(recipes.app, name="recipe")


def command() -> Any:
    """The application as typer runs it."""
    return get_command(app)


def help_of(words: Sequence[str]) -> str | None:
    """The help that these words ask for, None where they ask for none; the same text as typer's own.

    Typer would first check all that was given, with pydantic, which takes longer than everything else together.
    """
    if not set(HELP) & set(words) or "--" in words or "_CARRARA_COMPLETE" in os.environ:
        return None
    at = command()
    context = typer.Context(at, info_name="carrara", help_option_names=list(HELP))
    for word in words:
        if word.startswith("-"):
            continue
        if not hasattr(at, "commands"):
            break
        if word not in at.commands:
            return None
        at = at.commands[word]
        context = typer.Context(at, info_name=word, parent=context)
    return context.get_help()
