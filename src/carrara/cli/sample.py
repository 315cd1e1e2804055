"""`carrara sample`: pictures from a model, as one sheet, as files, and as a film."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    Steps,
    Threshold,
    Times,
    wishes,
)
from carrara.cli.outputs import free_file, fresh_file, fresh_folder
from carrara.cli.start import Start, read_start
from carrara.cli.voice import Voice
from carrara.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from carrara.editing import Edit
    from carrara.model import Model
    from carrara.sampling import Sampling

COUNT = 16
FILM_SAMPLES = 16
SAMPLES = "samples.json"

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
StartPath = Annotated[
    Path | None,
    typer.Option("--start", metavar="PATH", help="A picture to begin from, or a folder of some, taken in turn."),
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
Out = Annotated[
    Path | None,
    typer.Option("--out", help="FILE.png for one sheet, a folder for a file each.  [default: samples/NAME-SEED.png]"),
]
Gif = Annotated[
    Path | None,
    typer.Option("--gif", metavar="FILE.gif", help=f"Also film the denoising of the first {FILM_SAMPLES}."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


@dataclass(frozen=True)
class Job:
    """Everything that is to be sampled, checked."""

    model: Model
    seeds: list[int]
    labels: list[int] | None
    sampling: Sampling
    cond: Any
    wishes: dict[str, Any]
    batch: int
    start: Start | None = None
    edit: Edit | None = None

    @property
    def strength(self) -> float:
        """The share of the steps that is walked."""
        return 1.0 if self.edit is None else self.edit.strength

    @property
    def steps(self) -> int:
        """The steps that are walked."""
        from carrara.editing import walked

        return walked(self.sampling.steps, self.strength)

    def origin(self) -> dict[str, Any]:
        """What was changed and what computed, as it is written down."""
        from carrara.backends import TORCH

        start = self.start
        return {
            "start": start and str(start.path),
            "strength": start and self.strength,
            "mask": start and start.mask_path and str(start.mask_path),
            "backend": self.model.backend.name if self.model.backend else TORCH,
        }

    def names(self) -> list[str | None]:
        """The class of each sample by name; None where there are none."""
        if self.labels is None:
            return [None] * len(self.seeds)
        return [self.model.classes[label] for label in self.labels]


def sample(
    path: ModelPath,
    n: Count = None,
    label: Labels = None,
    seed: Seed = 0,
    steps: Steps = None,
    sampler: SamplerName = None,
    times: Times = None,
    guidance_scale: GuidanceScale = None,
    guidance_interval: GuidanceInterval = None,
    guidance_rescale: GuidanceRescale = None,
    threshold: Threshold = None,
    eta: Eta = None,
    start: StartPath = None,
    strength: Strength = None,
    mask: MaskPath = None,
    backend: Backend = "torch",
    batch: Batch = 32,
    out: Out = None,
    gif: Gif = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Sample pictures from a model. Each has its own seed, and is the same in any batch."""
    from carrara.cli.threads import in_words, use_cores
    from carrara.model import load

    threads, voice = use_cores(), Voice(as_json)
    model = load(path, backend=backend)
    asked = wishes(model, steps, sampler, times, guidance_scale, eta, threshold, guidance_interval, guidance_rescale)
    begun = read_start(model, start, strength, mask)
    job = planned(model, counted(n, begun), label or [], seed, batch, asked, begun)
    target = destination(out, f"{model.recipe.name}-{seed}", overwrite)
    film = None if gif is None else fresh_file(gif, "--gif", ".gif", overwrite)
    voice.say(f"model       {path}: {described(model, job.sampling, job.strength)}; {in_words(threads)}")
    for line in (*with_backend(model), *(() if begun is None else begun.said())):
        voice.say(line)
    clock = time.perf_counter()
    with voice.counting() as report:
        drawn = batches(job, report)
        put_sheet(target, drawn) if target.suffix == ".png" else put_files(target, drawn, job, path)
        seconds = time.perf_counter() - clock
        if film is not None:
            put_film(film, job, report)
    tell(voice, job, path, target, film, seconds, threads)


def counted(n: int | None, start: Start | None) -> int:
    """How many samples: as asked, or one a picture of a folder. Raises InputError where some would go unused."""
    starts = 1 if start is None else len(start.files)
    if n is not None and 0 < n < starts:
        raise InputError(f"--start holds {starts} pictures, and {n} samples were asked for; give -n {starts} or more")
    if n is not None:
        return n
    return COUNT if starts == 1 else starts


def planned(
    model: Model,
    n: int,
    label: Sequence[str],
    seed: int,
    batch: int,
    asked: dict[str, Any],
    start: Start | None = None,
) -> Job:
    """The Job; raises InputError for whatever cannot be done, before anything is."""
    from carrara.model import seeds_of

    seeds = seeds_of(n, seed, None)
    labels = labels_of(model, n, label)
    sampling, cond = model.plan(n, asked if labels is None else {**asked, "label": labels})
    edit = None if start is None else model.edit(n, **start.wishes(n))
    return Job(model, seeds, labels, sampling, cond, asked, batch, start, edit)


def labels_of(model: Model, n: int, asked: Sequence[str]) -> list[int] | None:
    """The class of each sample: those asked for in turn, or all in turn; None for a model without labels."""
    names = [name.strip() for text in asked for name in ([text] if text in model.classes else text.split(","))]
    if len(names) > n:
        raise InputError(f"{len(names)} labels were given for {n} samples; give -n {len(names)} or fewer labels")
    wish = {"label": [names[index % len(names)] for index in range(n)]} if names else {}
    cond = model.condition.ask(n, **wish)
    return None if cond is None or "label" not in cond else cond["label"].tolist()


def destination(out: Path | None, name: str, overwrite: bool) -> Path:
    """Where the samples go: what was asked for, or the first free name in the folder samples/."""
    if out is None:
        return fresh_file(free_file(Path("samples", f"{name}.png")), "--out", ".png", overwrite)
    if out.suffix.lower() == ".png":
        return fresh_file(out, "--out", ".png", overwrite)
    return fresh_folder(out, "--out", overwrite)


def described(model: Model, sampling: Sampling, strength: float = 1.0) -> str:
    """What makes the samples, in a line."""
    from carrara.editing import walked

    first, last = sampling.guidance_interval
    narrowed = sampling.guidance_scale != 1 and (first, last) != (0, 1)
    guided = "" if sampling.guidance_scale == 1 else f", guidance {sampling.guidance_scale:g}"
    within = f" for t from {first:g} to {last:g}" if narrowed else ""
    bounds = "" if sampling.threshold["kind"] == "none" else f", {sampling.threshold['kind']} threshold"
    shape = "×".join(map(str, model.shape))
    whole = f"{sampling.steps} steps"
    steps = whole if strength == 1 else f"the last {walked(sampling.steps, strength)} of {whole}"
    cost = f"{'at most ' * narrowed}{sampling.passes(strength) or 'varying'} evaluations a sample"
    return f"{shape}, {model.parameters:,} parameters; {sampling.sampler}, {steps}, {cost}{guided}{within}{bounds}"


def with_backend(model: Model) -> list[str]:
    """The line that says what computes in the network's place; none where the network itself does."""
    return [] if model.backend is None else [f"backend     {model.backend.described()}"]


def batches(job: Job, report: Callable[[str, int, int], None]) -> Iterator[tuple[Sequence[int], Tensor]]:
    """(seeds, uint8 pictures (B, C, H, W)) of each batch; the bar moves with every step of the sampler."""
    from carrara.sampling import part

    total = len(job.seeds)
    for start in range(0, total, job.batch):
        rows = slice(start, min(start + job.batch, total))
        seeds = job.seeds[rows]
        edit = None if job.edit is None else job.edit.rows(rows)
        for step in job.model.walk(seeds, part(job.cond, rows), job.sampling, edit):
            report("sampling", start + len(seeds) * (step.index + 1) // job.steps, total)
        yield seeds, job.model.codec.decode(step.x).cpu()


def put_sheet(path: Path, drawn: Iterator[tuple[Sequence[int], Tensor]]) -> None:
    """Writes all samples as one picture."""
    import torch

    from carrara import files
    from carrara.evaluation.pictures import grid, png_bytes

    files.write(path, png_bytes(grid(torch.cat([pictures for _, pictures in drawn]).numpy())))


def put_files(folder: Path, drawn: Iterator[tuple[Sequence[int], Tensor]], job: Job, path: Path) -> None:
    """Writes a file a sample as soon as it is there, and samples.json last."""
    from carrara import __version__, files
    from carrara.evaluation.pictures import grid, png_bytes

    clear(folder)
    names = dict(zip(job.seeds, job.names(), strict=True))
    starts = {} if job.start is None else dict(zip(job.seeds, job.start.names(len(job.seeds)), strict=True))
    entries = []
    for seeds, pictures in drawn:
        for seed, picture in zip(seeds, pictures.numpy(), strict=True):
            file = f"{seed:05d}.png"
            (folder / file).write_bytes(png_bytes(grid(picture[None], scale=1)))
            begun = {"start": starts[seed]} if starts else {}
            entries.append({"file": file, "seed": seed, "label": names[seed], **begun})
    settings = dataclasses.asdict(job.sampling)
    about = {"carrara": __version__, "model": str(path), "sampling": settings, **job.origin()}
    files.write_json(folder / SAMPLES, {**about, "samples": entries})


def clear(folder: Path) -> None:
    """Takes away the samples that an earlier samples.json lists."""
    listing = folder / SAMPLES
    if listing.is_file():
        try:
            old = [str(entry["file"]) for entry in json.loads(listing.read_text())["samples"]]
        except (ValueError, KeyError, TypeError):
            return
        for name in (*old, SAMPLES):
            if Path(name).name == name:
                (folder / name).unlink(missing_ok=True)


def put_film(path: Path, job: Job, report: Callable[[str, int, int], None]) -> None:
    """Writes the denoising film of the first samples."""
    from carrara.evaluation.pictures import film, save_gif

    seeds = job.seeds[:FILM_SAMPLES]
    label: dict[str, Any] = {} if job.labels is None else {"label": job.labels[:FILM_SAMPLES]}
    start = {} if job.start is None else job.start.wishes(len(seeds))
    frames, times = [], []
    for t, x, x0 in job.model.film(seeds, **job.wishes, **label, **start):
        frames.append((x.numpy(), x0.numpy()))
        times.append(t)
        report("filming", len(times), job.steps + 1)
    pictures = film(frames, times)
    save_gif(pictures, path, duration_ms=max(80, 3000 // len(pictures)))


def tell(voice: Voice, job: Job, path: Path, out: Path, film: Path | None, seconds: float, threads: int) -> None:
    """Says what was made, from which seeds, and where it is."""
    first, last = job.seeds[0], job.seeds[-1]
    voice.say(f"sampled     {len(job.seeds)} in {seconds:.1f} s, {len(job.seeds) / seconds:.1f} a second")
    voice.say(f"seeds       {first}" + (f" to {last}" if last > first else ""))
    if job.labels is not None:
        names = list(dict.fromkeys(job.names()))
        voice.say(f"labels      {', '.join(map(str, names))}{' in turn' if len(names) > 1 else ''}")
    voice.say(f"written     {out}" + ("" if film is None else f" and {film}"))
    voice.tell(
        out=out,
        gif=film,
        model=path,
        seeds=job.seeds,
        labels=None if job.labels is None else job.names(),
        sampling=dataclasses.asdict(job.sampling),
        **job.origin(),
        seconds=round(seconds, 3),
        threads=threads,
    )
