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
from carrara.kinds import DIFFUSION
from carrara.model import Model, kind_of, load
from carrara.recipe import check, parse

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


def due(images: int, batch: int, budget: int, snapshots: int) -> bool:
    """Whether one of the `snapshots`, evenly spaced, the last at the end, is due after the step that ended with so many images."""
    every = budget / snapshots
    return images >= budget or int(images / every) > int((images - batch) / every)


def keep(run: Path, images: int, averages: Averages) -> None:
    """Keeps a snapshot of the averages in the run's folder, whole or not at all."""
    path = run / FOLDER / f"{images:012d}"
    if averages.values and not path.exists():
        path.parent.mkdir(exist_ok=True)
        files.write_folder(path, averages.save)


@dataclass(frozen=True)
class Mixture:
    """An average of a run's weights that is still to be made: which kept ones it is made of, and how much of each."""

    run: Path
    length: float
    images: int
    """Where it ends."""
    files: Sequence[Path]
    weights: Sequence[float]

    @classmethod
    def of(cls, run: Path, length: float, images: int | None = None) -> Mixture:
        """The average of this length, a share of the run, at so many images (None: at the run's end).

        Raises InputError where the run kept no averages, or is not finished, DamagedFile where one of them is damaged.
        """
        gamma = exponent(length)
        if kind_of(run) != DIFFUSION:
            raise InputError(f"{run} is no run of a diffusion model; averages of others are not made")
        found = snapshots(run)
        first, last = found[0][1], found[-1][1]
        end = last if images is None else images
        if not first <= end <= last:
            raise InputError(f"{end} images are not within the run's snapshots, {first} to {last}")
        known = [(folder, each, seen) for folder, seen in found if seen <= end for each in lengths_of(run)]
        weights = mixture([(exponent(each), seen) for _, each, seen in known], (gamma, end)).tolist()
        return cls(run, length, end, [file_of(folder, PLAYER, each) for folder, each, _ in known], weights)

    def model(self, progress: Callable[[int, int], None] | None = None) -> Model:
        """The run's model with this average."""
        made = load(self.run)
        put(made, self.files, self.weights, progress)
        made.facts |= {"average_length": self.length, "average_images": self.images, "average_of": len(self.files)}
        return made


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


def lengths_of(run: Path) -> tuple[float, ...]:
    """The lengths whose averages a run kept."""
    settings = check(parse((run / "recipe.yaml").read_text(), str(run / "recipe.yaml"))).build("training")
    found: tuple[float, ...] = tuple(settings.averages)
    return found


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
