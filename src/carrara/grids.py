"""`times: {kind: tuned}`: the grid that is found for a model and a way of sampling it, once, and kept beside its weights.

The search itself is carrara.tuning's. What is found belongs to the weights, the sampler, the steps, guidance, threshold and to what
it was tuned on; with any of these another grid is found. It is kept in the model folder's tuned.json, which the folder's
manifest does not list: without it the model is whole, and the grid is found again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara import about, files, tensors
from carrara.editing import thresholded
from carrara.errors import DamagedFile, InputError, nearest
from carrara.rng import Streams
from carrara.schedules import Schedule
from carrara.times import TUNED, falls, grid
from carrara.tuning import Tuned, tune

if TYPE_CHECKING:
    from carrara.model import Model
    from carrara.samplers import Sampler
    from carrara.sampling import Sampling

log = logging.getLogger(__name__)

FILE = "tuned.json"
GRID = "grid"
"""Under which name resolved times carry the grid itself."""
EVERY_S = 10.0
LEAST_POINTS = 4


@dataclass(frozen=True)
class Tuning:
    """What a grid is tuned on."""

    points: int = 24
    """Starting points, the classes in turn; a quarter of them are held out."""
    seed: int = 0
    """Of the points."""
    evaluations: int = 16_000
    """Of the network, each of one point, at most; a guided one is two."""

    def __post_init__(self) -> None:
        for name, least in (("points", LEAST_POINTS), ("seed", 0), ("evaluations", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"the option {name} of tuned times is {value!r}; it is a whole number of at least {least}"
                )

    @classmethod
    def of(cls, times: Mapping[str, Any]) -> Tuning:
        """The options of `times`. Raises InputError for others."""
        options = {name: value for name, value in times.items() if name not in ("kind", GRID)}
        for name, value in options.items():
            if name not in cls.__dataclass_fields__:
                allowed = nearest(str(name), cls.__dataclass_fields__)
                raise InputError(f"the grid of times {TUNED!r} has no option {name!r}: {allowed}")
            if isinstance(value, float) and value.is_integer():
                options[name] = int(value)
        return cls(**options)


def check_tunable(times: Mapping[str, Any], sampler: str, entry: Sampler, steps: int, schedule: Schedule) -> None:
    """Raises InputError where no grid can be tuned: for a sampler that draws noise or chooses its own steps, and wrong options."""
    Tuning.of(times)
    grid("uniform", steps, schedule)
    if entry.stochastic or entry.evaluations is None:
        why = (
            "adds noise on its way, so there is no path to compare it with"
            if entry.stochastic
            else "chooses its own steps"
        )
        raise InputError(
            f"times {TUNED!r} and the sampler {sampler!r} do not go together: it {why}; "
            "choose another grid such as karras, or a sampler such as adams"
        )
    if GRID in times:
        given(times, steps)


def given(times: Mapping[str, Any], steps: int) -> Tensor:
    """The grid (steps + 1,) that tuned times carry. Raises InputError where they carry none, or not one of so many steps."""
    if GRID not in times:
        raise InputError(
            f"a grid of the kind {TUNED!r} is found for a model: sample with Model.sample, or find it with carrara.tuning.tune"
        )
    found = read(times[GRID])
    if found is None:
        raise InputError("the grid in times is not one: it must be times that fall strictly from 1 to 0")
    if len(found) != steps + 1:
        raise InputError(
            f"the grid in times has {len(found) - 1} steps and {steps} were asked for; leave the grid out, or ask for as many"
        )
    return found


def read(numbers: Any) -> Tensor | None:
    """The grid that a list of numbers is, None where it is none."""
    if not isinstance(numbers, Sequence) or not all(type(number) in (int, float) for number in numbers):
        return None
    times = torch.tensor(numbers, dtype=torch.float64)
    return times if falls(times) else None


@dataclass
class Grids:
    """The grids that were tuned for one model."""

    folder: Path | None = None
    """The model folder, None for a model that was never saved."""
    known: list[dict[str, Any]] = field(default_factory=list)
    """Each with what it is for, the grid, and what it was tuned on."""

    def resolved(self, model: Model, sampling: Sampling) -> Sampling:
        """The settings with their tuned grid in them: a known one, or one that is found now, which is said. Others as they are."""
        if sampling.times.get("kind") != TUNED or GRID in sampling.times:
            return sampling
        tuning = Tuning.of(sampling.times)
        purpose = purpose_of(model, sampling, tuning)
        on_disk = stored(self.folder)
        known = (entry for entry in [*self.known, *on_disk] if entry["for"] == purpose)
        entry = next(known, None) or self._found(model, sampling, tuning, purpose, on_disk)
        return sampling.changed(times={"kind": TUNED, **asdict(tuning), GRID: entry[GRID]})

    def gather(self) -> None:
        """Takes what the folder knows into memory, before the folder is replaced."""
        mine = [entry["for"] for entry in self.known]
        self.known += [entry for entry in stored(self.folder) if entry["for"] not in mine]

    def settle(self, folder: Path) -> None:
        """Keeps what is known in this folder from now on."""
        self.folder = folder
        if self.known:
            self._write([])

    def _found(
        self, model: Model, sampling: Sampling, tuning: Tuning, purpose: dict[str, Any], on_disk: list[dict[str, Any]]
    ) -> dict[str, Any]:
        log.warning(
            f"tuning the grid of times for {sampling.sampler} with {sampling.steps} steps, once: "
            f"about {tuning.evaluations:,} evaluations of the network"
        )
        start = time.perf_counter()
        tuned = search(model, sampling, tuning)
        seconds = time.perf_counter() - start
        entry = {"for": purpose, GRID: tuned.times.tolist(), "tuned_on": account(tuned, tuning, seconds)}
        self.known.append(entry)
        where = self._write([old for old in on_disk if old["for"]["weights"] == purpose["weights"]])
        log.warning(
            f"tuned in {seconds:.0f} s: the end's distance from the exact one, on points held out, is {tuned.error:.3g} "
            f"where the best other grid ({tuned.start}) has {tuned.untuned:.3g}; {where}"
        )
        return entry

    def _write(self, others: list[dict[str, Any]]) -> str:
        """Writes what is known and `others` into the folder; where it is kept, in words."""
        if self.folder is None:
            return "kept in memory only, for this model has not been saved"
        mine = [entry["for"] for entry in self.known]
        entries = [*(entry for entry in others if entry["for"] not in mine), *self.known]
        try:
            files.write_json(self.folder / FILE, {"grids": entries})
        except OSError as error:
            return f"kept in memory only, for {self.folder} cannot be written ({error.strerror})"
        return f"kept in {self.folder / FILE}"


def purpose_of(model: Model, sampling: Sampling, tuning: Tuning) -> dict[str, Any]:
    """All that decides which grid is best, as JSON gives it back."""
    purpose = {
        "weights": tensors.sha256(model.weights()),
        **({"backend": model.backend.name} if model.backend else {}),
        "sampler": sampling.sampler,
        "options": dict(sampling.options),
        "steps": sampling.steps,
        "guidance": [sampling.guidance_scale, *sampling.guidance_interval, sampling.guidance_rescale],
        "threshold": dict(sampling.threshold),
        **asdict(tuning),
    }
    plain: dict[str, Any] = json.loads(json.dumps(purpose, default=str))
    return plain


def search(model: Model, sampling: Sampling, tuning: Tuning) -> Tuned:
    """The grid for these settings, from points that `tuning` names, the classes in turn, on the network's device."""
    from carrara.model import evaluating
    from carrara.sampling import moved

    device, points = model.denoiser.device, tuning.points
    x = model.denoiser.process.prior(model.codec.shape(model.shape), Streams.of_run(tuning.seed, 0, points))
    guide = sampling.guide(model.denoiser, moved(model.condition.null(points), device))
    with torch.no_grad(), evaluating(model.denoiser):
        return tune(
            thresholded(guide, **sampling.threshold),
            x.to(device),
            sampling.steps,
            partial(sampling.entry().walk, **sampling.options),
            moved(model.condition.ask(points), device),
            evaluations=max(1, tuning.evaluations // (1 if sampling.guidance_scale == 1 else 2)),
            progress=now_and_then(),
        )


def account(tuned: Tuned, tuning: Tuning, seconds: float) -> dict[str, Any]:
    """What is to be known of a tuned grid, as plain data."""
    surroundings = about.surroundings()
    return {
        **{name: surroundings[name] for name in ("date", "carrara", "torch", "processor")},
        "points": tuning.points,
        "seed": tuning.seed,
        "error_heldout": tuned.error,
        "untuned": tuned.start,
        "untuned_error_heldout": tuned.untuned,
        "walks": tuned.walks,
        "evaluations": tuned.evaluations,
        "seconds": round(seconds, 1),
    }


def stored(folder: Path | None) -> list[dict[str, Any]]:
    """The entries of a folder's tuned.json; none where there is no file, or a damaged one, which is said."""
    path = None if folder is None else folder / FILE
    if path is None or not path.is_file():
        return []
    try:
        entries = files.read_json(path)["grids"]
        for entry in entries:
            entry["for"]["weights"]
            given({GRID: entry[GRID]}, entry["for"]["steps"])
    except (DamagedFile, OSError, ValueError, KeyError, TypeError):
        log.warning(f"{path} is damaged; grids are tuned again")
        return []
    return list(entries)


def now_and_then() -> Callable[[int, int], None]:
    """Progress as a line of the log every EVERY_S seconds, with how long it will take."""
    start = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY_S and done < total:
            last = now
            left = (total - done) * (now - start) / done
            log.warning(f"tuning: {done:,} of {total:,} evaluations, {left:.0f} s left at most")

    return report
