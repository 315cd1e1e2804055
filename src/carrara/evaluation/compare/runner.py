"""The runner of comparisons: samples every model, measures every thing, and keeps each piece as soon as it is there.

Blocks of samples and figures are kept in the comparison's own folder, features in the user's cache. So what was stopped goes
on, and a comparison with one thing more costs that thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from carrara import about, files
from carrara.backends import TORCH
from carrara.errors import CarraraError, InputError
from carrara.evaluation.compare.against import Reference, check_statistics, reference_of
from carrara.evaluation.compare.figures import LEAST, NAMES, NEAR, PAIRS, READ, Figures, Ruler
from carrara.evaluation.compare.samples import Drawing
from carrara.evaluation.compare.things import (
    Pictured,
    Sampled,
    Summarised,
    Thing,
    check_shapes,
    recognised,
)
from carrara.evaluation.diversity import K
from carrara.evaluation.evaluate import labelled
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.frechet import caution
from carrara.evaluation.inputs import Counter
from carrara.evaluation.prompts import wishes_of
from carrara.evaluation.settings import plain
from carrara.evaluation.streaming import Pictures
from carrara.evaluation.studies.ground import heldout_pictures, noise_pictures
from carrara.evaluation.uncertainty import LEVEL, REPLICATES
from carrara.training.run import dataset_of

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""
Wishes = Callable[["Model"], Mapping[str, Any]]

FOLDER, KEPT = "compare", "kept"
N = 1000
HELDOUT, NOISE, SCALE = "held-out pictures", "noise", "scale"
SHOWN = 30
"""Pictures of each thing that the page shows."""
OF_MODEL = ("cost", "sampling", "weights_sha256", "shown", "data_matches")
SAMPLING, READING, REAL, LOOKING, MEASURING = (
    "sampling, steps of one picture",
    "reading, files",
    "the reference, pictures",
    "features, pictures",
    "measuring, pieces",
)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that a comparison is about to do, checked."""

    things: Sequence[Thing]
    drawings: Mapping[str, Drawing]
    """Of each model by its name."""
    reference: Reference
    n: int
    why_n: str
    """Why n is what it is, where nobody said; "" else."""
    seed: int
    size: int | None
    features: Features
    folder: Path

    @property
    def kept(self) -> Path:
        """Where samples and figures are kept."""
        return self.folder / KEPT

    def labels(self, thing: Thing) -> Tensor | None:
        """The classes (n,) that a thing's pictures were asked to show, where they are the reference's; else None."""
        dataset = self.reference.dataset
        known = dataset is not None and isinstance(thing, Sampled) and labelled(thing.model, dataset)
        return self.drawings[thing.name].labels if known else None


@dataclass(frozen=True, eq=False)
class Measured:
    """A set of pictures that is to be measured; `labels` (n,) are the classes it shows, where these are to be read."""

    kind: str
    name: str
    pictures: Callable[[], Pictures]
    labels: Tensor | None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.kind, self.name


def planned(
    things: Sequence[str | Path],
    n: int | None = None,
    reference: Dataset | Path | None = None,
    features: Features | str = "efficientnet",
    seed: int = 0,
    size: int | None = None,
    batch: int = 32,
    folder: Path = Path(FOLDER),
    wishes: Wishes = lambda model: {},
    progress: Report | None = None,
    backend: str = TORCH,
) -> Plan:
    """The Plan of a comparison of the things at these paths, of n pictures each, kept in `folder`.

    n: None takes N, or as many as the smallest folder and the held-out split have. reference: None is the training split
    of the first model's dataset; else a dataset, a folder of pictures or a `.npz` file of statistics. size: what pictures
    of folders are brought to. `wishes` gives what `Model.plan` is asked for, model by model. `backend`: what computes their
    networks, see `Model.use`.
    Raises InputError for whatever cannot be done, before anything is sampled.
    """
    found = recognised(things, size, _stage(progress, READING))
    against = reference_of(_data(found) if reference is None else reference, size, _stage(progress, READING))
    check_shapes(found, against.shape, f"the reference {against.name}")
    network = load_features(features) if isinstance(features, str) else features
    check_statistics([thing for thing in found if isinstance(thing, Summarised)], network)
    number, why = counted(n, found, against)
    folder = files.writable_folder(Path(folder))
    drawings = {
        thing.name: _drawing(thing, number, seed, batch, folder / KEPT, _captions(wishes, against, number), backend)
        for thing in found
        if isinstance(thing, Sampled)
    }
    return Plan(found, drawings, against, number, why, seed, size, network, folder)


def counted(n: int | None, things: Iterable[Thing], reference: Reference) -> tuple[int, str]:
    """How many pictures of each thing are measured, and why where nobody said. Raises InputError where some have fewer."""
    limits = [
        (len(thing.pictures), f"{thing.name} has {len(thing.pictures):,} pictures")
        for thing in things
        if isinstance(thing, Pictured)
    ]
    if reference.dataset is not None:
        heldout = len(reference.dataset.heldout)
        limits.append(
            (heldout, f"{reference.name} has {heldout:,} held-out pictures, which the floor is measured on")
        )
    most, has = min(limits, default=(N, ""))
    if n is not None and limits and n > most:
        raise InputError(f"{n} pictures of each thing were asked for, and {has}; give -n {most} or fewer")
    number, why = (min(N, most), has if most < N else "") if n is None else (n, "")
    if number < LEAST:
        said = f" ({why})" if why else ""
        raise InputError(f"{number} pictures of each thing are too few to be compared{said}; {LEAST} are the least")
    return number, why


def run(plan: Plan, progress: Report | None = None) -> dict[str, Any]:
    """The results, as plain data ready for JSON: the settings and a row of each thing, held-out pictures and noise.

    Each block of samples, part of features and set of figures is kept as soon as it is there; what is there already is read.
    """
    report: Report = progress or (lambda stage, done, total: None)
    sample(plan, report)
    ruler = Ruler.of(plan.reference, plan.features, plan.n, plan.kept, _stage(report, REAL))
    sets = measured(plan)
    looked = Counter(plan.n * len(sets), _stage(report, LOOKING))
    pieces = Counter(3 * len(sets), _stage(report, MEASURING))
    found = {one.key: _figures(ruler, one, looked, pieces) for one in sets}
    rows = [_row(plan, ruler, thing, found) for thing in plan.things]
    scale = [_scale(plan, one, found[one.key]) for one in sets if one.kind == SCALE]
    return {**settings(plan, ruler), "things": rows, "scale": scale}


def sample(plan: Plan, report: Report) -> None:
    """Draws and keeps the samples of every model that are not there yet."""
    drawings = plan.drawings.values()
    left = sum((rows.stop - rows.start) * each.sampling.steps for each in drawings for rows in each.missing())
    counter = Counter(left, _stage(report, SAMPLING))
    for each in drawings:
        each.fill(counter)


def measured(plan: Plan) -> list[Measured]:
    """All sets of pictures: those of the things, and with a dataset the held-out ones and noise."""
    sets = [
        Measured(thing.kind, thing.name, partial(pictures_of, plan, thing, plan.n), plan.labels(thing))
        for thing in plan.things
        if not isinstance(thing, Summarised)
    ]
    dataset = plan.reference.dataset
    if dataset is None:
        return sets
    asked = any(one.labels is not None for one in sets)
    for name, made in ((HELDOUT, heldout_pictures), (NOISE, noise_pictures)):
        pictures, labels = made(dataset, plan.n)
        sets.append(Measured(SCALE, name, partial(_same, pictures), labels if asked else None))
    return sets


def _same(pictures: Tensor) -> Tensor:
    return pictures


def pictures_of(plan: Plan, thing: Sampled | Pictured, n: int) -> Pictures:
    """The first n pictures of a thing."""
    if isinstance(thing, Sampled):
        return plan.drawings[thing.name].samples(n)
    return dataclasses.replace(thing.pictures, files=thing.pictures.files[:n])


def sheets(plan: Plan) -> list[tuple[str, Tensor]]:
    """Name and first pictures of every thing that has some, and of the held-out ones: uint8 (SHOWN or fewer, C, H, W)."""
    count = min(SHOWN, plan.n)
    shown = [
        (thing.name, torch.as_tensor(pictures_of(plan, thing, count)[0:count]))
        for thing in plan.things
        if not isinstance(thing, Summarised)
    ]
    if plan.reference.dataset is not None:
        shown.append((HELDOUT, heldout_pictures(plan.reference.dataset, count)[0]))
    return shown


def settings(plan: Plan, ruler: Ruler) -> dict[str, Any]:
    """All that the rows share."""
    real = None if ruler.real is None else len(ruler.real)
    return {
        **about.surroundings(),
        "n": plan.n,
        "why_n": plan.why_n,
        "seed": plan.seed,
        "size": plan.size,
        "reference": plan.reference.described,
        "reference_kind": plan.reference.kind,
        "reference_n": ruler.n,
        "reference_fingerprint": plan.reference.fingerprint,
        "pairs_n": real,
        "features": plan.features.name,
        "features_sha256": plan.features.sha256,
        "features_dim": plan.features.dim,
        "caution": caution(plan.n if ruler.n is None else min(plan.n, ruler.n), plan.features.dim),
        "resizer": plan.features.resizer,
        "k": K,
        "level": LEVEL,
        "replicates": REPLICATES,
    }


def _figures(ruler: Ruler, one: Measured, looked: Counter, pieces: Counter) -> Figures:
    before = looked.done
    pictures = one.pictures()

    def progress(done: int, total: int) -> None:
        looked.advance(before + done - looked.done)

    return ruler.of_pictures(pictures, one.labels, progress, lambda: pieces.advance(1))


def _row(plan: Plan, ruler: Ruler, thing: Thing, found: Mapping[tuple[str, str], Figures]) -> dict[str, Any]:
    if isinstance(thing, Summarised):
        figures, n = ruler.of_statistics(thing.statistics), thing.statistics.n
    else:
        figures, n = found[thing.kind, thing.name], plan.n
    missing = {name: why(plan, thing, name) for name in NAMES if figures[name] is None}
    row = {
        "name": thing.name,
        "kind": thing.kind,
        "n": n,
        **_measured_with(plan),
        "figures": figures,
        "missing": missing,
    }
    return {**row, **(_of_model(plan, thing) if isinstance(thing, Sampled) else dict.fromkeys(OF_MODEL))}


def _of_model(plan: Plan, thing: Sampled) -> dict[str, Any]:
    """What only a model's row holds: OF_MODEL."""
    drawing, trained_on = plan.drawings[thing.name], thing.model.facts.get("data_fingerprint")
    labels = [] if drawing.labels is None else drawing.labels[:SHOWN].tolist()
    return {
        "cost": drawing.cost(),
        "sampling": plain(dataclasses.asdict(drawing.sampling)),
        "weights_sha256": drawing.weights,
        "shown": [thing.model.classes[label] for label in labels] or None,
        "data_matches": trained_on in (None, plan.reference.fingerprint) if plan.reference.dataset else None,
    }


def _scale(plan: Plan, one: Measured, figures: Figures) -> dict[str, Any]:
    return {"name": one.name, "kind": SCALE, "n": plan.n, **_measured_with(plan), "figures": figures}


def _measured_with(plan: Plan) -> dict[str, str]:
    return {
        "reference": plan.reference.described,
        "features": plan.features.name,
        "resizer": plan.features.resizer,
    }


def why(plan: Plan, thing: Thing, figure: str) -> str:
    """Why a figure cannot be had of a thing."""
    if isinstance(thing, Summarised):
        return "a statistics file gives a Fréchet distance only, at the number of pictures it is of"
    if figure in PAIRS:
        return "the reference is a statistics file, or of too few pictures, and this compares single pictures"
    if figure in NEAR:
        return "only a dataset says which pictures were trained on and which were held out"
    if figure in READ and plan.reference.dataset is None:
        return "the reference is no dataset, so no classes are known"
    return "only a model that is asked for the classes of the reference's dataset can be read as asked"


def _drawing(thing: Sampled, n: int, seed: int, batch: int, kept: Path, wishes: Wishes, backend: str) -> Drawing:
    try:
        thing.model.use(backend)
        return Drawing.of(thing.model, n, seed, batch, kept, wishes(thing.model))
    except InputError as error:
        raise InputError(f"{thing.name}: {error}") from error


def _captions(wishes: Wishes, against: Reference, n: int) -> Wishes:
    """The wishes, with held-out captions of the reference's dataset where a model is asked by prompt."""
    dataset = against.dataset
    return wishes if dataset is None else lambda model: wishes_of(model, dataset, n, wishes(model))


def _data(things: Iterable[Thing]) -> Dataset:
    """The dataset of the first model. Raises InputError where there is no model."""
    first = next((thing for thing in things if isinstance(thing, Sampled)), None)
    if first is None:
        raise InputError(
            "without a model it is not known what to compare with; say it with --reference: a dataset, "
            "a folder of real pictures, or an .npz file of their statistics"
        )
    try:
        return dataset_of(first.model.recipe)
    except CarraraError as error:
        raise InputError(
            f"the data of {first.name} cannot be read: {error} Or choose another reference with --reference."
        ) from error


def _stage(report: Report | None, name: str) -> Callable[[int, int], None] | None:
    return None if report is None else lambda done, total: report(name, done, total)
