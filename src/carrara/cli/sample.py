"""`carrara sample`: pictures or texts from a model, printed, in one file or in many, and as a film."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.asked import WORDS, NegativePrompt, Prompts, PromptsFile, Sources, several, texts_of, words_of
from carrara.cli.job import Job, spread
from carrara.cli.options import (
    Backend,
    Batch,
    Eta,
    GuidanceInterval,
    GuidanceRescale,
    GuidanceScale,
    Json,
    ModelPath,
    SamplerName,
    Seed,
    Seeds,
    Steps,
    Temperature,
    Threshold,
    Times,
    TopK,
    TopP,
    wishes,
)
from carrara.cli.outputs import free_file, fresh_file, fresh_folder
from carrara.cli.start import Start, read_start
from carrara.cli.voice import Report, Voice
from carrara.cli.writing import FILM_SAMPLES, put, put_film
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.evaluation.media import Medium
    from carrara.model import Model
    from carrara.samplers import Step
    from carrara.sampling import Sampling

COUNT = 16

Count = Annotated[
    int | None,
    typer.Option(
        "-n", "--count", help=f"How many samples.  [default: {COUNT}, or one a picture of a folder --start]"
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", help="A class by name or number, or a comma list; taken in turn.  [default: all classes]"
    ),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="PATH|TEXT",
        help="A picture to begin from, or a folder of some, taken in turn; for a model of texts a text that goes on, with ▁ "
        "for each token to be made.",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        help="The share of the steps that change the start, above 0 to 1.  [default: 0.6, with --mask 1]",
    ),
]
MaskPath = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="A picture: what is white in it is made, what is black is kept."),
]
Between = Annotated[
    int | None,
    typer.Option(
        "--between",
        metavar="N",
        min=1,
        help="So many pictures on the way from each sample to the next, in a strip; with the samplers that add no noise.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="FILE.png for one sheet, of texts FILE.txt or FILE.jsonl, a folder for a file each.  "
        "[default: samples/NAME-SEED.png; texts are printed]",
    ),
]
Gif = Annotated[
    Path | None,
    typer.Option("--gif", metavar="FILE.gif", help=f"Also film the denoising of the first {FILM_SAMPLES} pictures."),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE.html", help=f"Also film, as a page, how the first {FILM_SAMPLES} texts are made."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


def sample(
    path: ModelPath,
    n: Count = None,
    label: Labels = None,
    source: Sources = None,
    prompt: Prompts = None,
    prompts: PromptsFile = None,
    negative_prompt: NegativePrompt = None,
    seed: Seed = 0,
    seeds: Seeds = None,
    between: Between = None,
    steps: Steps = None,
    sampler: SamplerName = None,
    times: Times = None,
    guidance_scale: GuidanceScale = None,
    guidance_interval: GuidanceInterval = None,
    guidance_rescale: GuidanceRescale = None,
    threshold: Threshold = None,
    eta: Eta = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    start: StartFrom = None,
    strength: Strength = None,
    mask: MaskPath = None,
    backend: Backend = "torch",
    batch: Batch = 32,
    out: Out = None,
    gif: Gif = None,
    html: Html = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Sample pictures or texts from a model. Each has its own seed, and is the same in any batch."""
    from carrara.cli.threads import in_words, use_cores
    from carrara.model import load

    threads, voice = use_cores(), Voice(as_json)
    texts = texts_of(source, prompt, prompts, negative_prompt)
    model = load(path, backend=backend)
    draw = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    guidance = (guidance_interval, guidance_rescale)
    asked = wishes(model, steps, sampler, times, guidance_scale, eta, threshold, *guidance, draw)
    begun = read_start(model, start, strength, mask)
    own = seeds_asked(seeds)
    count = counted(usual(own, between) if n is None else n, begun, *several(texts))
    job = planned(model, count, label or [], own or seed, batch, asked | words_of(model, count, texts), begun)
    if between is not None:
        job = spread(unfilmed(job, gif or html), between)
    target = destination(out, f"{model.recipe.name}-{job.seeds[0]}", job.medium, overwrite)
    film = film_file({".gif": gif, ".html": html}, job.medium, overwrite)
    voice.say(f"model       {path}: {described(model, job.sampling, job.strength)}; {in_words(threads)}")
    for line in (*with_backend(model), *(() if begun is None else begun.said())):
        voice.say(line)
    made, seconds = drawn(job, target, film, path, voice)
    if made is not None:
        voice.say(f"\n{job.medium.printed(made, job.notes())}")
    tell(voice, job, path, {"out": target, "film": film, "made": made}, seconds, threads)


def drawn(job: Job, target: Path | None, film: Path | None, model: Path, voice: Voice) -> tuple[Any, float]:
    """Samples and writes; what is written nowhere, and the seconds that sampling took, the film's apart."""
    clock = time.perf_counter()
    with voice.counting() as report:
        made = put(target, batches(job, report), job, model)
        seconds = time.perf_counter() - clock
        if film is not None:
            put_film(film, job, report)
    return made, seconds


def usual(seeds: list[int] | None, between: int | None) -> int | None:
    """How many samples are meant where nobody says: one a seed, or the two ends of a way; None where neither is given."""
    return len(seeds) if seeds else None if between is None else 2


def counted(n: int | None, start: Start | None, texts: int, what: str) -> int:
    """How many samples: as asked, or one a picture of a folder, a source or a prompt, of which there are `texts`.

    Raises InputError where some would go unused.
    """
    if n is not None and 0 < n < texts:
        raise InputError(f"{texts} {what} were given for {n} samples; give -n {texts} or fewer {what}")
    if n is None and texts:
        return texts
    starts = 1 if start is None else start.count
    if n is not None and 0 < n < starts:
        raise InputError(f"--start holds {starts} pictures, and {n} samples were asked for; give -n {starts} or more")
    if n is not None:
        return n
    return COUNT if starts == 1 else starts


def planned(
    model: Model,
    n: int,
    label: Sequence[str],
    seed: int | list[int],
    batch: int,
    asked: dict[str, Any],
    start: Start | None = None,
) -> Job:
    """The Job; raises InputError for whatever cannot be done, before anything is. `seed`: the first, or that of each sample."""
    from carrara.filling import pays
    from carrara.model import seeds_of

    seeds = seeds_of(n, 0, seed) if isinstance(seed, list) else seeds_of(n, seed, None)
    labels = labels_of(model, n, label)
    sampling, cond = model.plan(n, asked if labels is None else {**asked, "label": labels})
    edit = None if start is None else model.edit(n, **start.wishes(n))
    exact = isinstance(seed, list) or pays(n)
    return Job(model, seeds, labels, sampling, cond, asked, batch, start, edit, exact)


def seeds_asked(text: str | None) -> list[int] | None:
    """The numbers of "3,17". Raises InputError for anything else."""
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds {text!r} is not a list of whole numbers, such as 3,17") from None


def labels_of(model: Model, n: int, asked: Sequence[str]) -> list[int] | None:
    """The class of each sample: those asked for in turn, or all in turn; None for a model without labels."""
    names = [name.strip() for text in asked for name in ([text] if text in model.classes else text.split(","))]
    if len(names) > n:
        raise InputError(f"{len(names)} labels were given for {n} samples; give -n {len(names)} or fewer labels")
    wish = {"label": [names[index % len(names)] for index in range(n)]} if names else {}
    cond = model.condition.ask(n, **wish)
    return None if cond is None or "label" not in cond else cond["label"].tolist()


def destination(out: Path | None, name: str, medium: Medium, overwrite: bool) -> Path | None:
    """Where the samples go: what was asked for, or the first free name in the folder samples/; None: they are printed."""
    if out is None:
        usual = medium.usual
        return (
            None if usual is None else fresh_file(free_file(Path("samples", name + usual)), "--out", usual, overwrite)
        )
    ending = out.suffix.lower()
    if ending in medium.sheets:
        return fresh_file(out, "--out", ending, overwrite)
    return fresh_folder(out, "--out", overwrite, medium.sheets)


def film_file(asked: dict[str, Path | None], medium: Medium, overwrite: bool) -> Path | None:
    """Where the film goes; None where none was asked for. Raises InputError for a film of what the model does not make."""
    for ending, path in asked.items():
        if path is not None and ending != medium.films:
            own = medium.films
            raise InputError(
                f"--{ending[1:]} {path}: films of {medium.noun}s are --{own[1:]} FILE{own}; give that instead"
            )
    found = asked[medium.films]
    return None if found is None else fresh_file(found, f"--{medium.films[1:]}", medium.films, overwrite)


def unfilmed(job: Job, film: Path | None) -> Job:
    """The Job. Raises InputError where a film is asked for, of samples between others."""
    if film is not None:
        raise InputError(
            "--between writes a strip of its pictures, not a film of how they are made; leave out --gif and --html"
        )
    return job


def described(model: Model, sampling: Sampling, strength: float = 1.0) -> str:
    """What makes the samples, in a line."""
    from carrara.editing import walked
    from carrara.evaluation.media import made_by

    first, last = sampling.guidance_interval
    narrowed = sampling.guidance_scale != 1 and (first, last) != (0, 1)
    guided = "" if sampling.guidance_scale == 1 else f", guidance {sampling.guidance_scale:g}"
    within = f" for t from {first:g} to {last:g}" if narrowed else ""
    bounds = "" if sampling.threshold["kind"] == "none" else f", {sampling.threshold['kind']} threshold"
    shape = made_by(model.shape).size(model.shape, model.codec.shape(model.shape))
    whole = f"{sampling.steps} steps"
    steps = whole if strength == 1 else f"the last {walked(sampling.steps, strength)} of {whole}"
    cost = f"{'at most ' * narrowed}{sampling.passes(strength) or 'varying'} evaluations a sample"
    return f"{shape}, {model.parameters:,} parameters; {sampling.sampler}, {steps}, {cost}{guided}{within}{bounds}"


def with_backend(model: Model) -> list[str]:
    """The line that says what computes in the network's place; none where the network itself does."""
    return [] if model.backend is None else [f"backend     {model.backend.described()}"]


def batches(job: Job, report: Report) -> Iterator[tuple[Sequence[int], Any]]:
    """(seeds, media) of each batch; the bar moves with every step of the sampler, and its first sample is seen as it becomes."""
    from carrara.sampling import part

    total, process, decode = len(job.seeds), job.model.denoiser.process, job.model.codec.decode
    for start in range(0, total, job.batch):
        rows = slice(start, min(start + job.batch, total))
        seeds = job.seeds[rows]
        edit = None if job.edit is None else job.edit.rows(rows)
        for step in job.model.walk(seeds, part(job.cond, rows), job.sampling, edit, job.exact):
            glimpse = partial(seen, job.medium, decode, process, step)
            report("sampling", start + int(len(seeds) * walked_share(job, step)), total, glimpse)
        yield seeds, decode(step.x.cpu())


def walked_share(job: Job, step: Step) -> float:
    """How much of the way is walked after this step, 0 to 1: of the steps, or of the time where they are not the grid's."""
    return 1 - float(step.s) if job.sampling.evaluations() is None else (step.index + 1) / job.steps


def seen(medium: Medium, decode: Any, process: Any, step: Step) -> str | None:
    """The first sample of a batch after this step, as lines; None where it cannot be that."""
    return medium.glimpse(decode(process.shown(step.x[:1].cpu(), step.s))[0])


def tell(voice: Voice, job: Job, path: Path, found: dict[str, Any], seconds: float, threads: int) -> None:
    """Says what was made, from which seeds, and where it is. `found`: out, film, and made, where it is written nowhere."""
    voice.say(f"sampled     {len(job.seeds)} in {seconds:.1f} s, {len(job.seeds) / seconds:.1f} a second")
    for line in (*seeds_said(job), *again(job)):
        voice.say(line)
    if job.labels is not None:
        names = list(dict.fromkeys(job.names()))
        voice.say(f"labels      {', '.join(map(str, names))}{' in turn' if len(names) > 1 else ''}")
    written = " and ".join(str(place) for place in (found["out"], found["film"]) if place is not None)
    voice.say(f"written     {written or 'nothing: --out FILE.txt, FILE.jsonl or a folder keeps them'}")
    voice.tell(
        out=found["out"],
        **{job.medium.films[1:]: found["film"]},
        model=path,
        seeds=job.seeds,
        **({} if job.told is None else {"between": list(job.told)}),
        labels=None if job.labels is None else job.names(),
        **{f"{name}s": job.wishes[name] for name in WORDS[1:] if name in job.wishes},
        **({} if found["made"] is None else {f"{job.medium.noun}s": found["made"]}),
        sampling=dataclasses.asdict(job.sampling),
        **job.origin(),
        seconds=round(seconds, 3),
        threads=threads,
    )


SAID, WIDTH = 8, 100
"""So many seeds are listed with their prompts, and so many characters of each."""


def seeds_said(job: Job) -> list[str]:
    """The seed of each sample: from which to which, or in a list, and with its prompt where it has one."""
    ends = [note for note in job.notes() if "share" not in note]
    seeds = [note["seed"] for note in ends]
    if job.told is not None:
        return [f"seeds       {' → '.join(map(str, seeds))}, {len(job.told)} pictures, the ends among them"]
    in_row = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    listed = f"{seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else "") if in_row else ", ".join(map(str, seeds))
    asked = [f"{'':12}{note['seed']}: {short(note['prompt'])}" for note in ends[:SAID] if note.get("prompt")]
    return [f"seeds       {listed}", *asked, *([f"{'':12}…"] if asked and len(ends) > SAID else [])]


def again(job: Job) -> list[str]:
    """The options that make the last of several pictures again, alone, to the bit."""
    if job.told is not None or not job.exact or len(job.seeds) < 2 or job.start is not None or not job.model.shape:
        return []
    note, words = job.notes()[-1], ["--seeds", str(job.seeds[-1])]
    for name in ("label", "prompt", "negative_prompt"):
        words += [f"--{name.replace('_', '-')}", str(note[name])] if note.get(name) is not None else []
    return [f"again       {short(shlex.join(words))} makes the last one alone, with the other options as they were"]


def short(text: str) -> str:
    """A text in a line, its end left out where it is long."""
    from carrara.evaluation.writing import visible

    words = visible(" ".join(text.split()))
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 1]}…"
