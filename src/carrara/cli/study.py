"""`carrara evaluate --study`: one model, many ways of sampling it, and the same measures of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from carrara.cli.names import STUDIES
from carrara.cli.options import wishes
from carrara.cli.voice import State, Voice
from carrara.errors import InputError, nearest

if TYPE_CHECKING:
    from carrara.evaluation.studies import Study
    from carrara.evaluation.studies.media import Medium

Chosen = tuple[str, list[float] | None]


def chosen(name: str | None, values: str | None, taken: Sequence[str]) -> Chosen:
    """The study's name and the values asked for (None: its own). Raises InputError where these options do not go together."""
    if name is None:
        raise InputError("--values says what a study varies; name the study too, such as --study noise")
    if name not in STUDIES:
        raise InputError(f"there is no study {name!r}: {nearest(name, STUDIES)}")
    if taken:
        raise InputError(f"--study {name} chooses {' and '.join(taken)} itself; leave {_them(taken)} out")
    return name, None if values is None else [_number(word) for word in values.split(",")]


def study(
    ctx: typer.Context,
    path: Path,
    chosen: Chosen,
    n: int | None,
    measured_by: Mapping[str, str | None],
    seed: int,
    times: str | None,
    guidance_scale: float | None,
    batch: int,
    as_json: bool,
) -> None:
    """Runs the study, or goes on with it, and says what was found and where it is.

    `measured_by`: what was said of who or what measures, features and judge.
    """
    from carrara.cli.evaluate import home, warn, warnings
    from carrara.cli.threads import in_words, use_cores
    from carrara.evaluation.metrics import check_options
    from carrara.evaluation.studies.media import MEDIA
    from carrara.evaluation.studies.run import FOLDER
    from carrara.model import load
    from carrara.training.run import dataset_of

    threads, voice = use_cores(), Voice(as_json)
    model = load(path)
    asked = wishes(model, None, None, times, guidance_scale, None)
    asked.pop("options", None)
    folder = home(path) / FOLDER
    with voice.busy("reading the data"):
        dataset = dataset_of(model.recipe)
    noun = dataset.train.noun
    check_options(measured_by, noun)
    medium = MEDIA[noun]
    if (given := measured_by[medium.asks]) is not None:
        asked[medium.asks] = given
    found, values = medium.study(chosen[0], noun), chosen[1]
    plan = medium.planned(found, model, dataset, folder, n, values, seed=seed, batch=batch, **asked)
    introduce(plan, path, in_words(threads), voice)
    warned = warnings(model, dataset.fingerprint)
    warn(warned)
    state: State = ctx.obj
    state.goes_on = True
    result, written, page = work(plan, medium, folder, voice)
    show(plan.study, medium, result, voice)
    voice.say(f"written     {written} and {page}")
    voice.tell(**result, warnings=warned, figures=written, report=page)


def introduce(plan: Any, path: Path, threads: str, voice: Voice) -> None:
    """Says what is about to be sampled, and how much of it is there already."""
    from carrara.evaluation.studies.study import guided

    cells, missing = plan.ways, len(plan.missing())
    guidance = guided(plan.study, plan.cells[0][1].guidance_scale)
    known = "" if missing == cells else f", {cells - missing} of them sampled already"
    voice.say(f"study       {plan.study.name}: {plan.study.title.lower()}; {path}, {guidance}; {threads}")
    voice.say(f"cells       {cells} of {plan.n} samples, seeds {plan.seeds[0]} to {plan.seeds[-1]}{known}")


def work(plan: Any, medium: Medium, folder: Path, voice: Voice) -> tuple[dict[str, Any], Path, Path]:
    """The results, and where they and their page are written."""
    from carrara import files

    with voice.counting() as report:
        result = medium.run(plan, report)
    written = folder / f"{plan.study.name}.json"
    files.write_json(written, result)
    with voice.busy("writing the page"):
        page = medium.write_page(plan.study, result, medium.sheets(plan), written.with_suffix(".html"))
    return result, written, page


def show(study: Study, medium: Medium, result: dict[str, Any], voice: Voice) -> None:
    """The figures as a table, what is held out and noise last."""
    from rich.table import Table as Shown

    from carrara.evaluation.report import number
    from carrara.evaluation.studies.page import table

    found = table(study, result, medium.measures, medium.worst)
    shown = Shown(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, head in enumerate(found.columns):
        shown.add_column(head, justify="left" if index == 1 else "right")
    for row in found.rows:
        shown.add_row(*(number(cell, 3) for cell in row))
    voice.say()
    voice.show(shown)
    voice.say()


def _them(options: Sequence[str]) -> str:
    return "them" if len(options) > 1 else "it"


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"--values: {word.strip()!r} is not a number; give a comma list such as 5,10,50") from None
