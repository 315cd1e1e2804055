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
    from carrara.cli.job import Job

FILM_SAMPLES = 16
SAMPLES = "samples.json"
STRIP = "strip"

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

    files.write(path, sheet(made, job, path.suffix.lower()))


def sheet(made: Any, job: Job, suffix: str) -> bytes:
    """All samples in one file; of those between others a strip, in the order of the way."""
    if job.told is None:
        return job.medium.sheet(made, job.notes(), suffix)
    return job.medium.strip(made, job.told, suffix)


def put_files(folder: Path, drawn: Drawn, job: Job, path: Path) -> None:
    """Writes a file a sample as soon as it is there, the strip of those between others, and samples.json last."""
    from carrara import __version__, files

    clear(folder)
    entries: list[dict[str, Any]] = []
    notes, names, whole = job.notes(), names_of(job), []
    for _, media in drawn:
        for medium in media:
            file, place = job.medium.one(medium), len(entries)
            entries.append({"file": f"{names[place]}{file.suffix}", **notes[place]})
            (folder / entries[-1]["file"]).write_bytes(file.data)
        whole += [media] if job.told else []
    if whole:
        suffix = job.medium.sheets[0]
        files.write(folder / f"{STRIP}{suffix}", sheet(job.model.codec.together(whole), job, suffix))
    settings = dataclasses.asdict(job.sampling)
    about = {"carrara": __version__, "model": str(path), "sampling": settings, **job.origin()}
    files.write_json(folder / SAMPLES, {**about, "samples": entries})


def names_of(job: Job) -> list[str]:
    """What each sample's file is called: its seed, from the second of a seed on with a number; on a way its place on it."""
    if job.told is not None:
        return [f"{place:03d}" for place in range(len(job.seeds))]
    before = [job.seeds[:place].count(seed) for place, seed in enumerate(job.seeds)]
    return [
        f"{seed:05d}" + (f"-{earlier + 1}" if earlier else "")
        for seed, earlier in zip(job.seeds, before, strict=True)
    ]


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
    for frame in job.model.film(
        seeds, exact=job.exact, **{**job.wishes, **first(job.wishes, len(seeds))}, **label, **start
    ):
        frames.append(frame)
        report("filming", len(frames), max(len(frames), job.steps + 1))
    heads = [head(note) for note in job.notes()[: len(seeds)]]
    files.write(path, job.medium.film_of(frames, heads)[0].data)
