"""`carrara data`: what a dataset holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import complete_data
from carrara.cli.options import Changes, Json
from carrara.cli.outputs import fresh_file
from carrara.cli.sample import Overwrite
from carrara.cli.voice import Voice
from carrara.errors import InputError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

    from carrara.data import Dataset

PER_CLASS, CLASSES, UNLABELLED = 10, 40, 60

What = Annotated[
    str,
    typer.Argument(
        metavar="KIND_OR_RECIPE",
        help="A recipe, a YAML file, a kind of dataset (digits, emoji, fashion, folder) or a folder of pictures.",
        autocompletion=complete_data,
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.png", help="Write a picture of examples of each class.")
]


def data(
    what: What,
    changes: Changes = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Show what a dataset holds.

    Its size, classes, source, licence and fingerprint; with --out also a sheet of examples.
    """
    from carrara.training.run import dataset_of

    voice = Voice(as_json)
    recipe = recipe_of(what, changes or [])
    path = None if out is None else fresh_file(out, "--out", ".png", overwrite)
    with voice.busy("reading the data"):
        dataset = dataset_of(recipe)
    if path is not None:
        put(path, dataset)
    summary = dataset.summary()
    show(summary, voice)
    if path is not None:
        voice.say(f"{'examples':<12}{path}")
    voice.tell(**summary, options=dict(recipe.sections["data"]), out=path)


def recipe_of(what: str, changes: Sequence[str]) -> Any:
    """The Recipe whose data is meant. A change may leave out the word data: size=16 is data.size=16."""
    from carrara.recipe import ROOMS, SETTINGS, changed, check

    sections = {"name", "seed", *ROOMS, *SETTINGS}
    whole = [c if c.partition("=")[0].partition(".")[0] in sections else f"data.{c}" for c in changes]
    return check(changed(content_of(what), whole))


def content_of(what: str) -> dict[str, Any]:
    """The content of a recipe, or of one that has no other section than data. Raises InputError for anything else."""
    from carrara.data import DATASETS
    from carrara.recipe import names, parse, text_of

    if what in names():
        return parse(text_of(what), what)
    if what in DATASETS:
        return {"data": {"kind": what}}
    if Path(what).is_file():
        return parse(text_of(what), what)
    if Path(what).is_dir():
        return {"data": {"kind": "folder", "path": what}}
    if ":" in what:
        return {"data": {"kind": what}}
    raise InputError(
        f"there is no recipe or dataset {what!r}: {nearest(what, {*names(), *DATASETS})}; "
        "or a YAML file, a folder of pictures, or your own, module:name"
    )


def put(path: Path, dataset: Dataset) -> None:
    """Writes the sheet of examples."""
    from carrara import files
    from carrara.evaluation.pictures import png_bytes

    files.write(path, png_bytes(sheet(dataset)))


def sheet(dataset: Dataset) -> Image:
    """The first training pictures: a row a class, or all together where there are no classes or far too many."""
    import numpy as np

    from carrara.evaluation.pictures import grid, labelled_grid

    train = dataset.train
    if not 1 < len(dataset.classes) <= CLASSES:
        return grid(np.ascontiguousarray(train.pictures[:UNLABELLED]), columns=min(12, len(train)))
    tiles = np.full((len(dataset.classes), PER_CLASS, *dataset.shape), 255, np.uint8)
    for index in range(len(dataset.classes)):
        found = train.pictures[np.flatnonzero(train.labels == index)[:PER_CLASS]]
        tiles[index, : len(found)] = found
    return labelled_grid(tiles.reshape(-1, *dataset.shape), row_labels=dataset.classes)


def show(summary: dict[str, Any], voice: Voice) -> None:
    """The summary in lines, and the classes in a table."""
    counts = summary["counts"]
    facts = {
        "dataset": summary["name"],
        "pictures": f"{counts['train']:,} to train on, {counts['heldout']:,} held out",
        "shape": "×".join(map(str, summary["shape"])) + " (C×H×W)",
        "captions": "yes" if summary["captions"] else "no",
        "mirrored": "yes" if summary["flip"] else "no",
        "licence": summary["licence"],
        "source": summary["source"],
        "fingerprint": summary["fingerprint"],
    }
    for name, value in facts.items():
        voice.say(f"{name:<12}{value}")
    for note in summary["notes"]:
        voice.say(f"{'note':<12}{note}")
    if summary["classes"]:
        voice.say()
        voice.show(table(summary["classes"]))
        voice.say()


def table(classes: dict[str, dict[str, int]]) -> Any:
    """The classes and how many pictures each has."""
    from rich.markup import escape
    from rich.table import Table

    found = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for head, justify in (("number", "right"), ("class", "left"), ("training", "right"), ("held out", "right")):
        found.add_column(head, justify=justify)  # type: ignore[arg-type]
    for number, (name, counts) in enumerate(classes.items()):
        found.add_row(str(number), escape(name), f"{counts['train']:,}", f"{counts['heldout']:,}")
    return found
