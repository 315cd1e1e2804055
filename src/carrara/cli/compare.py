"""`carrara compare`: models, folders of pictures and statistics files side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.evaluate import FeaturesName
from carrara.cli.names import complete_data
from carrara.cli.options import Backend, Batch, Eta, GuidanceScale, Json, SamplerName, Seed, Steps, Times, wishes
from carrara.cli.voice import State, Voice

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.evaluation.compare import Plan
    from carrara.evaluation.report import Table

NAME = "compare"

Things = Annotated[
    list[Path],
    typer.Argument(
        metavar="THING...", help="Run or model folders, folders of pictures, .npz files of statistics (mu, sigma)."
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--count",
        help="How many pictures of each thing.  [default: 1000, or as many as the smallest folder or the held-out split has]",
    ),
]
ReferenceName = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="WHAT",
        help="What all are measured against: a recipe or dataset (its training pictures), a folder of pictures, "
        "an .npz file.  [default: the data of the first model]",
        autocompletion=complete_data,
    ),
]
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="Bring the pictures of folders to squares of this side.")
]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="FOLDER", help="Where the page, the figures and the samples go, to go on from."),
]


def compare(
    ctx: typer.Context,
    things: Things,
    n: Count = None,
    reference: ReferenceName = None,
    features: FeaturesName = "efficientnet",
    size: Size = None,
    seed: Seed = 0,
    steps: Steps = None,
    sampler: SamplerName = None,
    times: Times = None,
    guidance_scale: GuidanceScale = None,
    eta: Eta = None,
    batch: Batch = 32,
    backend: Backend = "torch",
    out: Out = Path(NAME),
    as_json: Json = False,
) -> None:
    """Compare models, folders of pictures and statistics files.

    The same number of pictures of each, against the same reference; models from the same seeds, the classes in turn. Fréchet
    distance and KID with their intervals, precision, recall, density, coverage, copies, classes read as asked, and the cost of
    models: as a table, and on a page with pictures of each. Stopped, the same command goes on.
    """
    from carrara.cli.threads import in_words, use_cores
    from carrara.evaluation.compare import planned

    threads, voice = use_cores(), Voice(as_json)
    with voice.busy("reading the data"):
        against = None if reference is None else reference_of(reference)
    with voice.counting() as report:
        plan = planned(
            things,
            n,
            against,
            features,
            seed,
            size,
            batch,
            out,
            lambda model: wishes(model, steps, sampler, times, guidance_scale, eta),
            report,
            backend,
        )
    introduce(plan, in_words(threads), voice)
    state: State = ctx.obj
    state.goes_on = True
    result, written, page = work(plan, voice)
    show(result, voice)
    voice.say(f"written     {written} and {page}")
    voice.tell(**result, figures=written, report=page)


def reference_of(what: str) -> Dataset | Path:
    """The dataset that is named, or the folder or file. Raises InputError for what is neither."""
    from carrara.cli.data import recipe_of
    from carrara.data import DATASETS
    from carrara.recipe import names
    from carrara.training.run import dataset_of

    path = Path(what).expanduser()
    if what not in {*names(), *DATASETS} and (path.is_dir() or path.suffix.lower() == ".npz"):
        return path
    return dataset_of(recipe_of(what, []))


def introduce(plan: Plan, threads: str, voice: Voice) -> None:
    """Says what is compared, with what, and how much is there already."""
    voice.say(f"comparing   {', '.join(thing.name for thing in plan.things)}; {threads}")
    voice.say(f"reference   {plan.reference.described}; {plan.features.name}, {plan.features.resizer}")
    voice.say(f"n           {plan.n:,} of each" + (f": {plan.why_n}" if plan.why_n else ""))
    for name, drawing in plan.drawings.items():
        left, blocks = len(drawing.missing()), len(drawing.blocks())
        known = "" if left == blocks else f", {blocks - left} of {blocks} blocks sampled already"
        cost = f"{drawing.sampling.passes() or 'varying'} evaluations a sample by {drawing.backend}"
        voice.say(f"model       {name}: {drawing.sampling.sampler}, {drawing.sampling.steps} steps, {cost}{known}")


def work(plan: Plan, voice: Voice) -> tuple[dict[str, Any], Path, Path]:
    """The results, and where they and their page are written."""
    from carrara import files
    from carrara.evaluation.compare import run, sheets, write_page

    with voice.counting() as report:
        result = run(plan, report)
    written = plan.folder / f"{NAME}.json"
    files.write_json(written, result)
    with voice.busy("writing the page"):
        page = write_page(result, sheets(plan), written.with_suffix(".html"))
    return result, written, page


def show(result: dict[str, Any], voice: Voice) -> None:
    """The figures and costs as tables, and what is missing."""
    from carrara.evaluation.compare import tables

    for table in (tables.distances(result), tables.shares(result), tables.costs(result)):
        if table is not None:
            voice.say()
            voice.show(shown(table))
    voice.say()
    voice.say(
        "↑ higher is better, ↓ lower; * is the best. Nearer: to a training picture than 99 % of held-out ones are."
    )
    for note in tables.notes(result):
        voice.say(f"{'note':<12}{note}")
    for names, figures, reason in getattr(tables.missing(result), "rows", ()):
        voice.say(f"{'–':<12}{names}: {figures}: {reason}")


def shown(table: Table) -> Any:
    """A table for a terminal, the best of each column with a star."""
    from rich.markup import escape
    from rich.table import Table as Shown

    found = Shown(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head, numeric in zip(table.columns, table.numeric, strict=True):
        found.add_column(escape(head), justify="right" if numeric else "left")
    for row, cells in enumerate(table.cells):
        found.add_row(*(escape(cell) + "*" * ((row, column) in table.best) for column, cell in enumerate(cells)))
    return found
