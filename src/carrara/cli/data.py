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
TEXTS, WIDTH = 4, 100

What = Annotated[
    str,
    typer.Argument(
        metavar="KIND_OR_RECIPE",
        help="A recipe, a YAML file, a kind of dataset (digits, emoji, fashion, folder, verse, gloss, chinese, words, texts) "
        "a folder of pictures, or a .txt or .jsonl file of texts.",
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

    Its size, classes, source, licence and fingerprint; of texts also a few examples, of pictures a sheet of them with --out.
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
    some = examples(dataset)
    for number, words in enumerate(some):
        voice.say(f"{'' if number else 'examples':<12}{words}")
    if path is not None:
        voice.say(f"{'examples':<12}{path}")
    shown = {"examples": some} if some else {}
    voice.tell(**summary, **shown, options=dict(recipe.sections["data"]), out=path)


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
    if Path(what).suffix.lower() in (".txt", ".jsonl") and Path(what).is_file():
        return {"data": {"kind": "texts", "path": what}}
    if Path(what).is_file():
        return parse(text_of(what), what)
    if Path(what).is_dir():
        return {"data": {"kind": "folder", "path": what}}
    if ":" in what:
        return {"data": {"kind": what}}
    raise InputError(
        f"there is no recipe or dataset {what!r}: {nearest(what, {*names(), *DATASETS})}; "
        "or a YAML file, a folder of pictures, a .txt or .jsonl file of texts, or your own, module:name"
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


def examples(dataset: Dataset) -> list[str]:
    """A few training texts, far from each other, on one line each and cut where they are long; none of pictures."""
    if dataset.train.noun != "text":
        return []
    train, step = dataset.train, max(1, len(dataset.train) // TEXTS)
    rows = range(step // 2, len(train), step)[:TEXTS]
    return [_line(train.texts[row], None if train.sources is None else train.sources[row]) for row in rows]


def _line(text: str, source: str | None) -> str:
    words = " ".join((text if source is None else f"{source} → {text}").split())
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 1]}…"


def show(summary: dict[str, Any], voice: Voice) -> None:
    """The summary in lines, and the classes in a table."""
    facts = {
        "dataset": summary["name"],
        **(_pictures(summary) if "shape" in summary else _texts(summary)),
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


def _pictures(summary: dict[str, Any]) -> dict[str, str]:
    return {
        "pictures": _sides(summary["counts"]),
        "shape": "×".join(map(str, summary["shape"])) + " (C×H×W)",
        "captions": "yes" if summary["captions"] else "no",
        "mirrored": "yes" if summary["flip"] else "no",
    }


def _texts(summary: dict[str, Any]) -> dict[str, str]:
    return {
        "texts": _sides(summary["counts"]),
        "characters": _sides(summary["characters"]),
        "longest": f"{summary['longest_bytes']:,} bytes",
        "paired": "yes: source → text" if summary["paired"] else "no",
    }


def _sides(counts: dict[str, int]) -> str:
    return f"{counts['train']:,} to train on, {counts['heldout']:,} held out"


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
