"""What `carrara sample` is about to make: samples of a model, or samples between those."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrara.cli.asked import WORDS
from carrara.cli.start import Start
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.between import Between
    from carrara.editing import Edit
    from carrara.evaluation.media import Medium
    from carrara.model import Model
    from carrara.sampling import Sampling


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
    edit: Edit | Between | None = None
    exact: bool = True
    """Whether each sample is, to the bit, what its seed gives in any batch."""
    told: tuple[dict[str, Any], ...] | None = None
    """What there is to say of samples between others."""

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

        begun = {"start": None, "mask": None} if self.start is None else self.start.origin()
        return {
            **begun,
            "strength": self.start and self.strength,
            "backend": self.model.backend.name if self.model.backend else TORCH,
        }

    @property
    def medium(self) -> Medium:
        """What is made, as people look at it."""
        from carrara.evaluation.media import made_by

        return made_by(self.model.shape)

    def notes(self) -> list[dict[str, Any]]:
        """What there is to say of each sample: its seed, its label, the texts it is asked by, and what it begins from."""
        if self.told is not None:
            return list(self.told)
        told = [{"seed": seed, "label": name} for seed, name in zip(self.seeds, self.names(), strict=True)]
        for name in (name for name in WORDS if name in self.wishes):
            told = [{**note, name: text} for note, text in zip(told, self.wishes[name], strict=True)]
        if self.start is None:
            return told
        starts = self.start.names(len(told))
        return [{**note, "start": start} for note, start in zip(told, starts, strict=True)]

    def names(self) -> list[str | None]:
        """The class of each sample by name; None where there are none."""
        if self.labels is None:
            return [None] * len(self.seeds)
        return [self.model.classes[label] for label in self.labels]


def spread(job: Job, count: int) -> Job:
    """The Job of these samples and so many on the way from each to the next. Raises InputError where there is no such way."""
    from carrara.interpolation import planned

    if job.start is not None:
        raise InputError("--between goes from noise to noise; leave out --start")
    way, cond = planned(job.model, job.seeds, count, job.sampling, job.cond)
    notes, stops = job.notes(), way.stops
    ways = zip(stops.first.tolist(), stops.second.tolist(), stops.share.tolist(), strict=True)
    told = tuple(_note(notes[first], notes[second], share) for first, second, share in ways)
    seeds = [note["seed"] for note in told]
    labels = job.labels and job.labels[:1] * len(seeds)
    return dataclasses.replace(job, seeds=seeds, labels=labels, cond=cond, edit=way, told=told)


def _note(first: dict[str, Any], second: dict[str, Any], share: float) -> dict[str, Any]:
    """What there is to say of a sample between two: what is said of an end, or of the nearer one, the other, and how far it is."""
    if share in (0, 1):
        return second if share else first
    return {**(second if share > 0.5 else first), "from": first, "to": second, "share": round(share, 6)}
