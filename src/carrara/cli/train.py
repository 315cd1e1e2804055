"""`carrara train`: begins a run, or goes on with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carrara.cli.names import complete_recipe
from carrara.cli.options import Changes, Json
from carrara.cli.voice import State, Voice

if TYPE_CHECKING:
    from carrara.training.budget import Asked
    from carrara.training.run import Run

MINUTES = 5.0
NOTICED = 0.01
"""The share by which a held-out loss must have risen to be spoken of."""

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe's name (see carrara recipe list) or a YAML file.",
        autocompletion=complete_recipe,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        help=f"How long to train, all in all.  [default: as the run began, as the recipe says, or {MINUTES:g}]",
    ),
]
Teacher = Annotated[Path | None, typer.Option("--teacher", help="The run or model that a distillation learns from.")]
Start = Annotated[
    Path | None,
    typer.Option("--from", help="The run or model whose weights to begin with, such as one of more pictures."),
]
Images = Annotated[int | None, typer.Option("--images", help="How many images to train on, in place of --minutes.")]
RunFolder = Annotated[Path | None, typer.Option("--out", help="The run folder.  [default: runs/NAME]")]
RecipeSeed = Annotated[int | None, typer.Option("--seed", help="The run's seed, in place of the recipe's.")]


def train(
    ctx: typer.Context,
    recipe: RecipeName,
    minutes: Minutes = None,
    images: Images = None,
    out: RunFolder = None,
    changes: Changes = None,
    seed: RecipeSeed = None,
    teacher: Teacher = None,
    start: Start = None,
    as_json: Json = False,
) -> None:
    """Train a recipe into a run folder, or go on with the run in it.

    The same command goes on with a run that was stopped, and leaves a complete one as it is.
    """
    from carrara.cli.threads import keep_memory, use_cores

    voice = Voice(as_json)
    with voice.busy("preparing"):
        threads = use_cores()
        keep_memory()
        changed = [*(changes or []), *([] if seed is None else [f"seed={seed}"])]
        changed += [] if start is None else [f"training.start={json.dumps(str(start))}"]
        run = opened(recipe, changed, teacher, out, minutes, images)
    introduce(run, threads, voice)
    if not complete(run):
        state: State = ctx.obj
        state.goes_on = True
        work(run, voice)
    if run.world.first:
        conclude(run, voice)


def opened(
    recipe: str, changes: list[str], teacher: Path | None, out: Path | None, minutes: float | None, images: int | None
) -> Run:
    """The run, new or begun, ready to be trained."""
    from carrara.training.run import Run
    from carrara.training.teacher import read

    resolved = read(recipe, changes, teacher)
    folder = out or Path("runs", resolved.name)
    return Run(resolved, folder, asked(minutes, images, folder, resolved.sections["training"]["images"]))


def asked(minutes: float | None, images: int | None, folder: Path, usual: int | None) -> Asked:
    """How long to train: what was given, or what the run in the folder began with, or `usual` images, or MINUTES."""
    from carrara import files
    from carrara.training.budget import Asked
    from carrara.training.run import FACTS

    if minutes is None and images is None:
        begun = folder / FACTS
        new = {"minutes": MINUTES} if usual is None else {"images": usual}
        return Asked(**(files.read_json(begun)["asked"] if begun.is_file() else new))
    return Asked(minutes, images)


def complete(run: Run) -> bool:
    """Whether there is nothing left to do but to say so."""
    from carrara.training.run import MODEL

    return run.finished and (run.folder / MODEL).is_dir()


def introduce(run: Run, threads: int, voice: Voice) -> None:
    """Says what is about to be trained, on what, where, and from where on."""
    from carrara.cli.threads import in_words
    from carrara.evaluation.media import made_by

    data, model, begun = run.dataset, run.model, run.learner.images
    voice.tell(
        event="start",
        recipe=run.recipe.name,
        folder=run.folder,
        data={"name": data.name, "train": len(data.train), "heldout": len(data.heldout), "shape": data.shape},
        parameters=model.parameters,
        threads=threads,
        processes=run.world.size,
        **run.trainable.computing.as_dict(),
        resumed_from=begun,
        budget_images=run.budget,
    )
    together = f", {run.world.size} processes" if run.world.size > 1 else ""
    voice.say(f"recipe      {run.recipe.name}, seed {run.recipe.seed}, {length(run)}")
    split = f"{len(data.train):,} to train on, {len(data.heldout):,} held out"
    voice.say(f"data        {data.name}: {split}, {made_by(data.shape).extent(data)}")
    voice.say(f"network     {model.parameters:,} parameters")
    if run.settings.start is not None:
        voice.say(f"begins with {run.settings.start}")
    voice.say(f"computing   {in_words(threads)}{together}, {run.trainable.computing}")
    voice.say(f"folder      {run.folder} ({standing(run)})")


def standing(run: Run) -> str:
    """Whether the run is new, begun or complete, in words."""
    from carrara.cli.training import examples

    begun = run.learner.images
    if complete(run):
        return "complete: nothing is left to do"
    return f"going on from {begun:,} {examples(run)}" if begun else "a new run"


def length(run: Run) -> str:
    """How long the run is, in words."""
    from carrara.cli.training import examples

    if run.asked.minutes is None:
        return f"{run.budget:,} {examples(run)}"
    known = "" if run.budget is None else f" = {run.budget:,} {examples(run)}"
    return f"{run.asked.minutes:g} minutes{known}"


def work(run: Run, voice: Voice) -> None:
    """Trains, showing how far it is. Where stdout has gone, what was learnt is saved all the same."""
    from carrara.cli.training import display

    try:
        with display(run, voice) as show:
            for progress in run.train():
                show(progress)
    except BrokenPipeError:
        run.save()
        raise


def conclude(run: Run, voice: Voice) -> None:
    """Writes the report where it is missing or older than the model, and says where everything is."""
    from carrara.cli.training import duration, examples
    from carrara.kinds import KINDS
    from carrara.model import kind_of
    from carrara.training.run import MODEL

    measured = "".join(f"; {figure}" for figure in heldout(run.figures))
    voice.say(f"complete    {run.learner.images:,} {examples(run)} in {duration(run.seconds)}{measured}")
    for line in best(run):
        voice.say(line)
    voice.say(f"model       {run.folder / MODEL}")
    report = written_report(run.folder, voice)
    words = KINDS[kind_of(run.folder)].after
    after = shlex.join([*words, str(run.folder)]) if words else None
    voice.say(f"report      {report}")
    if after is not None:
        voice.say(f"next        {after}")
    voice.tell(
        event="end",
        images=run.learner.images,
        seconds=round(run.seconds, 1),
        **run.figures,
        best=run.best,
        model=run.folder / MODEL,
        report=report,
        next=after,
    )


def best(run: Run) -> Iterator[str]:
    """What is to be said where the held-out loss was less on the way than at the end."""
    from carrara.cli.training import examples
    from carrara.training.run import HELDOUT

    if not run.best or run.best["images"] == run.learner.images:
        return
    least, last = run.best[HELDOUT], run.figures[HELDOUT]
    when = f"after {run.best['images']:,} {examples(run)}, when the held-out loss was least ({least:.4f})"
    if run.settings.saved == "best":
        yield f"saved       the averaged weights {when}"
    elif last - least > NOTICED * abs(least):
        yield f"best        {when}: since then training data is learnt by heart. A run with training.saved=best keeps the best"


def heldout(figures: Mapping[str, float]) -> Iterator[str]:
    """What was measured on held-out data at last, with averaged weights, in words."""
    if "heldout_loss_ema" in figures:
        yield f"held-out loss {figures['heldout_loss_ema']:.4f} with averaged weights"
    if "psnr_ema" in figures:
        yield f"reconstructions {figures['psnr_ema']:.1f} dB, structural similarity {figures['ssim_ema']:.3f}"
    if "perplexity_ema" in figures:
        yield f"perplexity of words {figures['perplexity_ema']:.0f}"
    if "text_to_image_at_1_ema" in figures:
        best, five = (100 * figures[f"text_to_image_at_{k}_ema"] for k in (1, 5))
        yield f"of held-out captions {best:.0f} % find their own picture first, {five:.0f} % among the best 5"


def written_report(folder: Path, voice: Voice) -> Path:
    """The report's path; it is written unless it is newer than the model."""
    from carrara.evaluation.summary import REPORT, write_report
    from carrara.model import DESCRIPTION
    from carrara.training.run import MODEL

    path = folder / REPORT
    if path.is_file() and path.stat().st_mtime >= (folder / MODEL / DESCRIPTION).stat().st_mtime:
        return path
    with voice.busy("writing the report"):
        return write_report(folder)
