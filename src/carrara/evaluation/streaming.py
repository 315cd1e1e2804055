"""Features of sets of any size: part by part, each kept as it is made, shared by as many processes as there are.

Every PART pictures are one part, known by the hash of their pixels. Its features are looked for in the cache under that
hash and all that decides the features; only where they are not there do the pictures pass through the network. So what
was interrupted goes on where it stopped, a set that has grown costs its new pictures, two sets that share pictures in
whole parts share the work, and no more than a part (of each process) is in memory.

Of several processes each makes every so many-th part, and all of them are given every part, in order: the features, and
whatever is computed from them, are those of one process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite, RunError
from carrara.evaluation.cache import Key, cache_folder, find, keep
from carrara.evaluation.features import Features, checked_colours, identity
from carrara.evaluation.inputs import Counter, Progress, gathered
from carrara.evaluation.statistics import Moments
from carrara.training.world import World

PART = 256


class Pictures(Protocol):
    """A set of pictures in a fixed order: a uint8 tensor or array (N, C, H, W), or what gives its slices as such."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Some of them, a uint8 tensor or array (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Selected:
    """Some pictures of a split, in an order of their own: rows (N,) of its media (M, C, H, W)."""

    media: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice, /) -> Tensor:
        return gathered(self.media, self.rows[rows])


def features_of(
    pictures: Pictures,
    features: Features,
    *,
    cache: Path | None = None,
    world: World | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The float32 features (N, dim) of all pictures; arguments as in `streamed`. All of them are in memory, 4 N dim bytes."""
    parts = list(streamed(pictures, features, cache=cache, world=world, progress=progress))
    return torch.cat(parts) if parts else torch.empty(0, features.dim)


def moments_of(
    pictures: Pictures,
    features: Features,
    *,
    cache: Path | None = None,
    world: World | None = None,
    progress: Progress | None = None,
) -> Moments:
    """The Moments of the features of all pictures; arguments as in `streamed`. Memory does not grow with N."""
    moments = Moments(features.dim)
    for part in streamed(pictures, features, cache=cache, world=world, progress=progress):
        moments.update(part)
    return moments


def streamed(
    pictures: Pictures,
    features: Features,
    *,
    cache: Path | None = None,
    world: World | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """The float32 features (≤ PART, dim) of one part after the other, in the pictures' order.

    Finished parts are kept in the folder `cache` (None: the user's cache folder). In a `world` of several processes all
    must ask for the same pictures, and each is given every part. Progress counts pictures, of all processes.
    Raises InputError on pictures that features are not made of, NonFinite where features are, and what reading the
    pictures raises; where that happens in another process of the world, RunError.
    """
    world = world or World()
    counter = Counter(len(pictures), progress)
    maker = _Maker(pictures, features, (cache or cache_folder()) / "features")
    for first in range(0, len(pictures), PART * world.size):
        for part in _round(maker, first, world):
            counter.advance(len(part))
            yield part


@dataclass(frozen=True)
class _Maker:
    """Makes parts, or finds them."""

    pictures: Pictures
    features: Features
    folder: Path

    def part(self, start: int) -> Tensor:
        """The features of the part that begins at picture `start`; (0, dim) beyond the last."""
        if start >= len(self.pictures):
            return torch.empty(0, self.features.dim)
        images = self._read(start)
        key = self._key(images)
        kept = find(key, self.folder)
        if kept is not None and "features" in kept:
            return kept["features"]
        made = self._checked(self.features(images), len(images))
        keep(key, {"features": made}, self.folder)
        return made

    def _read(self, start: int) -> Tensor:
        stop = min(start + PART, len(self.pictures))
        given = self.pictures[start:stop]
        # A copy: a slice of a memory-mapped file may not be written to, of which torch would warn.
        images = checked_colours(
            torch.from_numpy(np.array(given, subok=False)) if isinstance(given, np.ndarray) else given
        )
        if len(images) != stop - start:
            raise InputError(
                f"pictures {start} to {stop - 1} were asked for, {stop - start} of them; got {len(images)}."
            )
        return images

    def _checked(self, made: Tensor, n: int) -> Tensor:
        if made.shape != (n, self.features.dim):
            raise InputError(
                f"{self.features.name} must give features ({n}, {self.features.dim}) of {n} pictures; "
                f"got {tuple(made.shape)}."
            )
        if not torch.isfinite(made).all():
            raise NonFinite(f"features of {self.features.name} hold NaN or infinity: the network is broken.")
        return made.detach().cpu().float().contiguous()

    def _key(self, images: Tensor) -> Key:
        digest = hashlib.sha256(repr(tuple(images.shape)).encode())
        digest.update(images.contiguous().numpy().tobytes())
        return {
            "what": "features",
            "protocol": 1,
            "pictures": digest.hexdigest(),
            **identity(self.features),
            "dim": self.features.dim,
        }


def _round(maker: _Maker, first: int, world: World) -> list[Tensor]:
    """The parts that begin at picture `first`, one of each process."""
    if world.size == 1:
        return [maker.part(first)]
    mine, trouble = torch.empty(0, maker.features.dim), None
    try:
        mine = maker.part(first + world.rank * PART)
    # Whatever it is, the others must hear of it: they would wait for this part for ever.
    except Exception as error:
        trouble = error
    if world.any(trouble is not None)[0]:
        raise trouble or RunError("another process could not make its features; it says why.")
    return _gathered(mine, len(maker.pictures) - first, world)


def _gathered(mine: Tensor, left: int, world: World) -> list[Tensor]:
    """Every process's part, of at most `left` pictures in all."""
    padded = mine.new_zeros(PART, mine.shape[1])
    padded[: len(mine)] = mine
    whole = world.gather(padded)[:left]
    return [whole[start : start + PART] for start in range(0, len(whole), PART)]
