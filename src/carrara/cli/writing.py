"""Samples into files: all in one, a file each, and the film of the first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara.cli.asked import first
from carrara.cli.voice import Report

if TYPE_CHECKING:
    from carrara.cli.sample import Job

FILM_SAMPLES = 16
SAMPLES = "samples.json"

Drawn = Iterator[tuple[Sequence[int], Any]]
"""(seeds, media) of each batch."""


def put(target: Path | None, drawn: Drawn, job: Job, path: Path) -> Any:
    """Writes the samples of the model in `path` where they are to go. None; or all of them, where that is nowhere."""
    if target is not None and target.suffix.lower() not in job.medium.sheets:
        return put_files(target, drawn, job, path)
    made = job.model.codec.together([media for _, media in drawn])
    return made if target is None else put_sheet(target, made, job)


def put_sheet(path: Path, made: Any, job: Job) -> None:
    """Writes all samples as one file."""
    from carrara import files

    files.write(path, job.medium.sheet(made, job.notes(), path.suffix.lower()))


def put_files(folder: Path, drawn: Drawn, job: Job, path: Path) -> None:
    """Writes a file a sample as soon as it is there, and samples.json last."""
    from carrara import __version__, files

    clear(folder)
    notes = {note["seed"]: note for note in job.notes()}
    entries = []
    for seeds, media in drawn:
        for seed, medium in zip(seeds, media, strict=True):
            file = job.medium.one(medium)
            name = f"{seed:05d}{file.suffix}"
            (folder / name).write_bytes(file.data)
            entries.append({"file": name, **notes[seed]})
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


def put_film(path: Path, job: Job, report: Report) -> None:
    """Writes the film of the first samples."""
    from carrara import files
    from carrara.evaluation.media import head

    seeds = job.seeds[:FILM_SAMPLES]
    label: dict[str, Any] = {} if job.labels is None else {"label": job.labels[: len(seeds)]}
    start = {} if job.start is None else job.start.wishes(len(seeds))
    frames = []
    for frame in job.model.film(seeds, **{**job.wishes, **first(job.wishes, len(seeds))}, **label, **start):
        frames.append(frame)
        report("filming", len(frames), max(len(frames), job.steps + 1))
    heads = [head(note) for note in job.notes()[: len(seeds)]]
    files.write(path, job.medium.film_of(frames, heads)[0].data)
