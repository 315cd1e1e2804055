"""What all things are measured against: a dataset's training split, a folder of pictures, or a statistics file.

Of pictures the first REFERENCE_N in a fixed shuffled order, of a dataset those of `carrara.evaluation.measure`. Their Gaussian
is for the Fréchet distance; the first n of them are for kernel distances, precision and recall.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from carrara.errors import InputError
from carrara.evaluation.compare.things import Shape, Summarised, of_model, pictures_of
from carrara.evaluation.features import Features
from carrara.evaluation.folder import PictureFolder
from carrara.evaluation.inputs import Progress, shuffled
from carrara.evaluation.measure import REFERENCE_N, training
from carrara.evaluation.measure import reference as moments_of_dataset
from carrara.evaluation.statistics_file import check_length, read_statistics
from carrara.evaluation.streaming import Pictures, moments_of

if TYPE_CHECKING:
    from carrara.data import Dataset

Summary = tuple[Tensor, Tensor, int | None]
"""Mean (dim,), covariance (dim, dim), and how many pictures they are of, None where that is not known."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What is measured against; `dataset` is None for folders and statistics, which have nothing held out."""

    name: str
    kind: str
    """dataset, pictures or statistics."""
    described: str
    shape: Shape | None
    """Of one picture, (C, H, W); None where only statistics are known."""
    summary: Callable[[Features, Progress | None], Summary]
    available: int | None
    """How many pictures there are; None where only statistics are known."""
    real: Callable[[int], Pictures | None]
    """n -> its first n pictures in the shuffled order, or all there are; None where only statistics are known."""
    dataset: Dataset | None = None
    fingerprint: str | None = None


def reference_of(what: Dataset | Path, size: int | None = None, progress: Progress | None = None) -> Reference:
    """The Reference that a dataset, a folder of pictures or a `.npz` file is. Raises InputError for anything else."""
    if not isinstance(what, str | Path):
        return _dataset(what)
    path = Path(what).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return _statistics(path)
    if not path.is_dir() or of_model(path):
        state = "is a model" if path.is_dir() else "is neither a folder nor an .npz file of statistics"
        raise InputError(
            f"the reference {what} {state}; give a dataset, a folder of real pictures, or statistics of some"
        )
    return _folder(path, pictures_of(path, size, progress))


def _dataset(dataset: Dataset) -> Reference:
    available = len(dataset.train)
    limited = min(REFERENCE_N, available)
    described = f"{limited:,} of {available:,}" if limited < available else f"all {available:,}"

    def summary(features: Features, progress: Progress | None) -> Summary:
        moments, _ = moments_of_dataset(dataset, features, progress=progress)
        return moments.mean, moments.cov, moments.n

    return Reference(
        dataset.name,
        "dataset",
        f"{described} training pictures of {dataset.name}",
        tuple(dataset.shape),
        summary,
        available,
        lambda n: training(dataset, n),
        dataset,
        dataset.fingerprint,
    )


def _folder(path: Path, pictures: PictureFolder) -> Reference:
    order = shuffled(len(pictures), REFERENCE_N)
    mixed = dataclasses.replace(pictures, files=tuple(pictures.files[row] for row in order))

    def summary(features: Features, progress: Progress | None) -> Summary:
        moments = moments_of(mixed, features, progress=progress)
        return moments.mean, moments.cov, moments.n

    def first(n: int) -> Pictures:
        return dataclasses.replace(mixed, files=mixed.files[:n])

    limited = f"{len(mixed):,} of the" if len(mixed) < len(pictures) else "all"
    described = f"{limited} {len(pictures):,} pictures in {path}"
    if len(mixed) < 2:
        raise InputError(f"{path} holds {len(mixed)} picture; a reference needs 2 or more, and better thousands")
    return Reference(str(path), "pictures", described, pictures.shape, summary, len(mixed), first)


def _statistics(path: Path) -> Reference:
    found = read_statistics(path)

    def summary(features: Features, progress: Progress | None) -> Summary:
        check_length(path, found, features)
        return found.mean, found.cov, found.n

    count = "" if found.n is None else f" of {found.n:,} pictures"
    return Reference(str(path), "statistics", f"the statistics{count} in {path}", None, summary, None, lambda n: None)


def check_statistics(things: list[Summarised], features: Features) -> None:
    """Raises InputError where a thing's statistics are of other features."""
    for thing in things:
        check_length(thing.name, thing.statistics, features)
