"""Averages kept on a run's way, and the model whose weights are an average of a length chosen afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from carrara import files, tensors
from carrara.averaging import exponent, kept, mixture
from carrara.errors import InputError
from carrara.model import Model, load

FOLDER = "averages"
PLAYER = "denoiser"
Named = Mapping[str, Mapping[str, Tensor]]
"""Tensors by player and name."""


class Averages:
    """Of each length an average of all players' weights, which follows them step by step."""

    def __init__(self, lengths: Sequence[float], weights: Named) -> None:
        self.exponents = {length: exponent(length) for length in lengths}
        self.values = {
            length: {name: {key: p.detach().clone() for key, p in named.items()} for name, named in weights.items()}
            for length in lengths
        }

    def follow(self, weights: Named, before: int, after: int) -> None:
        """The weights hold from `before` images to `after`."""
        for length, gamma in self.exponents.items():
            share = 1 - kept(gamma, before, after)
            for name, named in weights.items():
                average = list(self.values[length][name].values())
                torch._foreach_lerp_(average, [p.detach() for p in named.values()], share)

    def save(self, folder: Path) -> None:
        """A file for each player and length."""
        for length, players in self.values.items():
            for name, named in players.items():
                tensors.save(named, file_of(folder, name, length))

    def restore(self, folder: Path) -> None:
        """What was saved there."""
        for length, players in self.values.items():
            for name, named in players.items():
                for key, value in tensors.fitting(file_of(folder, name, length), named).items():
                    named[key].copy_(value)


def file_of(folder: Path, player: str, length: float) -> Path:
    """The file of an average of a player's weights."""
    return folder / f"{player}.average-{length:g}.safetensors"


def keep(run: Path, images: int, averages: Averages) -> None:
    """Keeps a snapshot of the averages in the run's folder, whole or not at all."""
    path = run / FOLDER / f"{images:012d}"
    if averages.values and not path.exists():
        path.parent.mkdir(exist_ok=True)
        files.write_folder(path, averages.save)


@dataclass(frozen=True)
class Mixture:
    """An average of a run's weights that is still to be made: which kept ones it is made of, and how much of each."""

    trained: Model
    """The run's, which gets it."""
    length: float
    images: int
    """Where it ends."""
    files: Sequence[Path]
    weights: Sequence[float]

    @classmethod
    def of(cls, run: Path, length: float, images: int | None = None) -> Mixture:
        """The average of this length, a share of the run, at so many images (None: at the run's end).

        Raises InputError where the run kept no averages, is not finished, or is of another kind of model, DamagedFile where one of
        its files is damaged.
        """
        gamma, model = exponent(length), load(run)
        found = snapshots(run)
        first, last = found[0][1], found[-1][1]
        end = last if images is None else images
        if not first <= end <= last:
            raise InputError(f"{end} images are not within the run's snapshots, {first} to {last}")
        lengths = model.recipe.build("training").averages
        known = [(folder, each, seen) for folder, seen in found if seen <= end for each in lengths]
        weights = mixture([(exponent(each), seen) for _, each, seen in known], (gamma, end)).tolist()
        return cls(model, length, end, [file_of(folder, PLAYER, each) for folder, each, _ in known], weights)

    def model(self, progress: Callable[[int, int], None] | None = None) -> Model:
        """The run's model with this average."""
        put(self.trained, self.files, self.weights, progress)
        about = {"average_length": self.length, "average_images": self.images, "average_of": len(self.files)}
        self.trained.facts |= about
        return self.trained


def averaged(run: Path, length: float, images: int | None = None) -> Model:
    """The finished run's model with the average of this length, see `Mixture.of`."""
    return Mixture.of(run, length, images).model()


def put(
    model: Model, paths: Sequence[Path], weights: Sequence[float], progress: Callable[[int, int], None] | None
) -> None:
    """Gives the model's parameters the weighted sum of those in the files, added up in float64, a file at a time."""
    named = dict(model.denoiser.named_parameters())
    sums = {key: torch.zeros_like(p, dtype=torch.float64) for key, p in named.items()}
    for number, (path, weight) in enumerate(zip(paths, weights, strict=True)):
        for key, value in tensors.fitting(path, named).items():
            sums[key] += weight * value.double()
        if progress is not None:
            progress(number + 1, len(paths))
    with torch.no_grad():
        for key, parameter in named.items():
            parameter.copy_(sums[key])


def snapshots(run: Path) -> list[tuple[Path, int]]:
    """The folders of a run's snapshots with the images seen, oldest first, checked. Raises InputError where there are none."""
    found = sorted(path for path in (run / FOLDER).glob("*") if path.name.isdigit())
    if not found:
        raise InputError(
            f"{run} kept no averages on its way; train with --set 'training.averages=[0.05,0.1]' to choose a length afterwards"
        )
    for path in found:
        files.check_folder(path)
    return [(path, int(path.name)) for path in found]
