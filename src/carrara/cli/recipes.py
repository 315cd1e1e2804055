"""`carrara recipe`: what there is to train, and whether a recipe is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import complete_recipe
from carrara.cli.options import Changes, Json
from carrara.cli.voice import Voice

if TYPE_CHECKING:
    from carrara.recipe import Recipe

app = typer.Typer(help="List, show and check recipes.", rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A recipe's name or a YAML file.", autocompletion=complete_recipe)
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file.")]


@app.command("list")
def listing(as_json: Json = False) -> None:
    """List the recipes that come with carrara."""
    from rich.markup import escape
    from rich.table import Table

    from carrara.recipe import names, text_of

    voice = Voice(as_json)
    found = {name: described(text_of(name)) for name in names()}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for name, words in found.items():
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(words))
    voice.show(table)
    voice.tell(recipes=[{"name": name, "description": words} for name, words in found.items()])


@app.command("show")
def show(name: Name, changes: Changes = None, as_json: Json = False) -> None:
    """Show a recipe with every default written out, as YAML."""
    from carrara.recipe import read

    recipe = read(name, changes or [])
    voice = Voice(as_json)
    voice.say(recipe.to_yaml().rstrip())
    voice.tell(**recipe.as_dict())


@app.command("check")
def check(file: File, as_json: Json = False) -> None:
    """Check that a recipe can be trained.

    Its keys and their types are checked, and whether its parts go together; the data is not read.
    """
    from carrara.errors import RecipeError
    from carrara.recipe import read

    if not file.is_file():
        raise RecipeError(f"there is no file {file}; give the path of a YAML file")
    recipe = read(file)
    rehearse(recipe)
    voice = Voice(as_json)
    voice.say(f"{file} is a whole recipe: {recipe.name}")
    voice.tell(file=file, name=recipe.name, ok=True)


def rehearse(recipe: Recipe) -> None:
    """Builds all that needs no data; raises InputError where the parts do not go together."""
    from carrara.predictions import check_readable

    built: dict[str, Any] = {
        section: recipe.build(section)
        for section in ("codec", "schedule", "prediction", "weight", "train_times", "training", "sampling")
        if section in recipe.sections
    }
    if "prediction" not in built:
        return
    check_readable(built["schedule"], built["prediction"])
    built["sampling"].check_times(built["schedule"])


def described(text: str) -> str:
    """The comment that a recipe begins with."""
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return lines[0] if lines else ""
