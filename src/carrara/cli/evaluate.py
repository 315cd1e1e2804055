"""`carrara evaluate`: how good a model's samples are, with what every figure must be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import (
    ASKED,
    FEATURES,
    METRICS,
    STUDIES,
    TEXT_METRICS,
    complete_features,
    complete_metrics,
    complete_study,
)
from carrara.cli.options import (
    Backend,
    Batch,
    Eta,
    GuidanceScale,
    Json,
    ModelPath,
    SamplerName,
    Seed,
    Steps,
    Times,
    wishes,
)
from carrara.cli.voice import Voice
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

SAMPLES = 1000
Count = Annotated[
    int | None,
    typer.Option(
        "-n",
        "--count",
        help=f"How many samples, the classes in turn.  [default: {SAMPLES}; 500 in each cell of a study]",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAMES",
        help=f"A comma list of {', '.join(METRICS)}; of texts {', '.join(TEXT_METRICS)}.  "
        f"[default: all that apply but {', '.join(ASKED)}]",
        autocompletion=complete_metrics,
    ),
]
FeaturesName = Annotated[
    str,
    typer.Option(
        "--features",
        metavar="KIND",
        help=f"What pictures are compared by: {', '.join(FEATURES)}, or your own, module:name. The inception kinds "
        "take weights of yours: "
        "inception:PATH, or inception:PATH#SHA256 for a file that is not known.",
        autocompletion=complete_features,
    ),
]
ReferenceFile = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="PATH.npz",
        help="A statistics file (mu, sigma) to measure the Fréchet distance from, in place of the training pictures.",
    ),
]
StatisticsFile = Annotated[
    Path | None,
    typer.Option(
        "--write-statistics",
        metavar="PATH.npz",
        help="Also write the samples' own statistics, for others to measure against.",
    ),
]
ClipFolder = Annotated[
    Path | None,
    typer.Option(
        "--clip",
        metavar="FOLDER",
        help="The CLIP of the metric clip_score: a run folder that holds one, or a folder in transformers' layout.",
    ),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Who reads samples of texts, for the metric judge: pocketsphinx, or the folder of an autoregressive model of texts, "
        "best of other ones.  [default: pocketsphinx]",
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help=f"Sample in many ways and compare them, instead of measuring one: {', '.join(STUDIES)}.",
        autocompletion=complete_study,
    ),
]
Values = Annotated[
    str | None,
    typer.Option(
        "--values", metavar="LIST", help="What a study varies, such as 5,10,50 steps.  [default: the study's]"
    ),
]


def evaluate(
    ctx: typer.Context,
    path: ModelPath,
    n: Count = None,
    metrics: Metrics = None,
    study: StudyName = None,
    values: Values = None,
    features: FeaturesName = "efficientnet",
    reference: ReferenceFile = None,
    statistics: StatisticsFile = None,
    clip: ClipFolder = None,
    judge: JudgeName = None,
    seed: Seed = 0,
    steps: Steps = None,
    sampler: SamplerName = None,
    times: Times = None,
    guidance_scale: GuidanceScale = None,
    eta: Eta = None,
    backend: Backend = "torch",
    batch: Batch = 32,
    as_json: Json = False,
) -> None:
    """Measure how good a model's samples are.

    The Fréchet distance with its floor and ceiling, its interval and its value at infinite n; kernel distance, precision and
    recall by the same features; classes read as asked, nearest training pictures. With --metrics nll, how many bits the model
    needs for held-out pictures; inception_score and clip_score too are measured only by name. Of texts the bits a character
    needs, the perplexity by a judge, entropy, distinct runs of words, repetition. The figures go into the run folder and its
    report. With --study the same for many ways of sampling, beside one another, on a page of its own.
    """
    if study is not None or values is not None:
        from carrara.cli import study as studies

        unfit(backend, reference, statistics, clip)
        taken = {"--metrics": metrics, "--steps": steps, "--sampler": sampler, "--eta": eta}
        chosen = studies.chosen(study, values, [option for option, value in taken.items() if value is not None])
        measured_by = {"features": None if features == "efficientnet" else features, "judge": judge}
        studies.study(ctx, path, chosen, n, measured_by, seed, times, guidance_scale, batch, as_json)
        return

    from carrara.cli.outputs import fresh_file
    from carrara.cli.sample import described, planned, with_backend
    from carrara.cli.threads import in_words, use_cores
    from carrara.evaluation.evaluate import evaluate as measure
    from carrara.evaluation.kept import evaluations
    from carrara.model import load
    from carrara.training.run import dataset_of

    told, n = n, count_of(metrics) if n is None else n
    if statistics is not None:
        fresh_file(statistics, "--write-statistics", ".npz", overwrite=False)
    threads, voice = use_cores(), Voice(as_json)
    model = load(path, backend=backend)
    asked = wishes(model, steps, sampler, times, guidance_scale, eta)
    job = planned(model, n, [], seed, batch, asked)
    folder = home(path)
    voice.say(f"model       {path}: {described(model, job.sampling)}; {in_words(threads)}")
    for line in with_backend(model):
        voice.say(line)
    with voice.busy("reading the data"):
        dataset = dataset_of(model.recipe)
    warned = [*warnings(model, dataset.fingerprint), *beyond(dataset, told)]
    warn(warned)
    evaluations(folder)  # What cannot be added to is told before anything is measured.
    files = given(reference=reference, statistics=statistics, clip=clip, judge=judge)
    with voice.counting() as report:
        found = measure(model, dataset, n, names(metrics), features, seed, report, **files, batch=batch, **asked)
    kept_and_told(found, model, folder, statistics, warned, voice)


def kept_and_told(
    found: dict[str, Any], model: Model, folder: Path, statistics: Path | None, warned: list[str], voice: Voice
) -> None:
    """Puts the figures into the folder's figures.json, its report and the model's card, and says them."""
    from carrara.evaluation.kept import keep, note
    from carrara.files import read_json
    from carrara.training.run import MODEL

    written = keep(folder, found)
    if (folder / MODEL).is_dir():
        note(model, folder / MODEL, read_json(written)[-1])
    show(found, voice)
    report = rewritten(folder, voice)
    voice.say(f"written     {written}" + ("" if report is None else f" and {report}"))
    if statistics is not None:
        voice.say(f"            {statistics}: mean and covariance of {found['n']} samples' features")
    voice.tell(**found, statistics=statistics, warnings=warned, figures=written, report=report)


def unfit(backend: str, reference: Path | None, statistics: Path | None, clip: Path | None) -> None:
    """Raises InputError for what a study makes no use of."""
    if backend != "torch":
        raise InputError("a study is of the network itself; leave --backend out")
    for option, value in (("--reference", reference), ("--write-statistics", statistics), ("--clip", clip)):
        if value is not None:
            raise InputError(f"a study measures many sets of samples against training pictures; leave {option} out")


def given(**options: Any) -> dict[str, Any]:
    """Those that have a value."""
    return {option: value for option, value in options.items() if value is not None}


def names(metrics: str | None) -> list[str] | None:
    """The names in a comma list."""
    return None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]


def count_of(metrics: str | None) -> int:
    """How many pictures where nobody said: fewer where the likelihood alone is measured, which takes a second each."""
    from carrara.cli.likelihood import PICTURES

    return PICTURES if names(metrics) == ["nll"] else SAMPLES


def home(path: Path) -> Path:
    """The folder that keeps the figures: the run's, or the model's where it stands alone. Raises InputError if read-only."""
    from carrara.files import writable_folder
    from carrara.training.run import FACTS, MODEL

    inside = path.name == MODEL and (path.parent / FACTS).is_file()
    return writable_folder(path.parent if inside else path)


def warnings(model: Model, fingerprint: str) -> list[str]:
    """What must be known beside the figures."""
    trained_on = model.facts.get("data_fingerprint")
    if trained_on in (None, fingerprint):
        return []
    return [
        f"the data is not what this model was trained on (fingerprint {fingerprint[:12]}, then {str(trained_on)[:12]}); "
        "its figures are of the data as it is now"
    ]


def beyond(dataset: Dataset, n: int | None) -> list[str]:
    """What must be known where somebody has chosen more samples than their floor has pictures."""
    held_out = len(dataset.heldout)
    if n is None or n <= held_out or dataset.train.noun == "text":
        return []
    return [
        f"n is {n}, and {dataset.name} holds out {held_out} pictures: what has a floor at the same n, as the Fréchet distance has, "
        f"is measured of the first {held_out} samples"
    ]


def warn(sentences: Sequence[str]) -> None:
    """Says them on stderr, before the work begins."""
    for sentence in sentences:
        typer.echo(f"carrara: {sentence}", err=True)


def rewritten(folder: Path, voice: Voice) -> Path | None:
    """The run's report with the new figures in it; None for a model that stands alone."""
    from carrara.evaluation.summary import write_report
    from carrara.training.run import FACTS

    if not (folder / FACTS).is_file():
        return None
    with voice.busy("writing the report"):
        return write_report(folder)


def show(found: dict[str, Any], voice: Voice) -> None:
    """The figures as a table, each with its floor and ceiling; likelihoods as another."""
    from carrara.cli import texts

    texts.show(found, voice)
    if table := rows(found):
        show_samples(found, table, voice)
    if "nll" in found:
        from carrara.cli.likelihood import show as show_likelihood

        show_likelihood(found["nll"], voice)
    voice.say()
    if "sampling_s" not in found:
        voice.say(f"measuring   {found['measuring_s']:.1f} s")
        return
    cost = f"{found['evaluations_per_sample'] or 'varying'} evaluations a sample, {found['n'] / found['sampling_s']:,.1f} samples/s"
    voice.say(f"sampling    {found['sampling_s']:.1f} s: {cost}; measuring {found['measuring_s']:.1f} s")


def show_samples(found: dict[str, Any], lines: list[list[str]], voice: Voice) -> None:
    """The figures of the samples as a table, and what floor and ceiling are."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for head in ("figure", "value", "floor", "ceiling", "n", "measured against"):
        table.add_column(head, justify="right" if head in ("value", "floor", "ceiling", "n") else "left")
    for row in lines:
        table.add_row(*row)
    voice.say()
    voice.show(table)
    voice.say()
    for line in meanings(found):
        voice.say(line)


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table's rows."""
    from carrara.evaluation import told

    table = []
    if frechet := found.get("frechet"):
        figures = [number(frechet[key]) for key in ("value", "floor", "ceiling")]
        table.append(
            ["Fréchet distance", *figures, str(frechet["n"]), f"{frechet['reference']}, {frechet['features']}"]
        )
        table += told.chance_rows(frechet)
    table += told.rows(found)
    if read := found.get("classes"):
        figures = [percent(read[key]) for key in ("rate", "chance", "accuracy")]
        against = f"a classifier of {read['train_n']:,} training images"
        table.append(["class read as asked", *figures, str(read["n"]), against])
    if near := found.get("neighbours"):
        against = f"{near['train_n']:,} training images"
        distance = [number(near["median"]), "0", number(near["heldout_median"])]
        table.append(["distance to the nearest", *distance, str(near["n"]), against])
        table.append(["exact copies", str(near["copies"]), str(near["heldout_copies"]), "–", str(near["n"]), against])
    return table


def meanings(found: dict[str, Any]) -> list[str]:
    """What floor and ceiling are."""
    from carrara.evaluation import told

    lines = []
    if frechet := found.get("frechet"):
        first = f"; the first {frechet['n']} of {frechet['given']} samples" if frechet["given"] > frechet["n"] else ""
        lines.append(
            f"Fréchet distance: lower is better; floor: held-out pictures, ceiling: noise, at the same n{first}."
        )
        lines.append(
            f"Features: {frechet['features']}, weights {frechet['sha256'][:12]}… (SHA-256); resizing: {frechet['resizer']}."
        )
        if frechet["caution"]:
            lines.append(f"Beware: {frechet['caution']}.")
    lines += told.meanings(found)
    if "classes" in found:
        n = found["classes"]["accuracy_n"]
        lines.append(
            f"Class: higher is better; floor: chance, ceiling: the classifier itself on {n:,} held-out pictures."
        )
    if near := found.get("neighbours"):
        lines.append(
            "Nearest training picture: median distance in grey levels; floor: a copy, ceiling: held-out pictures. "
            f"{percent(near['nearer_share'])} are nearer than 99 % of held-out pictures are."
        )
    return lines


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"
