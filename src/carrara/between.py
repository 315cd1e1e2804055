"""From one sample to another: noise turned from that of one seed to that of another, and states of texts in between.

    x_1 = cos(share · π/2) · a + sin(share · π/2) · b

Both are draws from the prior, independent and of mean 0, so that x_1 is one too, whatever the share: its length is as noise's is,
which it would not be on the straight line. Where a sampler adds no noise of its own, pictures change steadily with the share.

Sources: Denoising Diffusion Implicit Models, Song et al., 2021, section 5.3 and appendix D.5, where the angle is the one measured
between the two; Animating Rotation with Quaternion Curves, Shoemake, 1985.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from carrara.denoisers import Cond, Denoiser
from carrara.errors import InputError
from carrara.guidance import AGAINST
from carrara.processes import Process, like
from carrara.rng import Streams

TEXT, MASK = "text", "text_mask"


def turned(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Noise (B, *) between a and b (B, *): a at share (B,) 0 and b at 1, to the bit; normal where these are, independently."""
    angle = share.double() * (math.pi / 2)
    other = (1 - share.double()) * (math.pi / 2)
    return like(other.sin(), a) * a + like(angle.sin(), b) * b


@dataclass(frozen=True)
class Stops:
    """Where samples stand between some ends: each between the end `first` and the end `second`, `share` of the way."""

    first: Tensor
    """(B,) int64."""
    second: Tensor
    share: Tensor
    """(B,) float64, from 0 to 1."""

    @classmethod
    def of(cls, ends: int, between: int) -> Stops:
        """All ends in a row, and so many stops, evenly spaced, from each to the next. Raises InputError for fewer than two ends."""
        if ends < 2 or between < 1:
            raise InputError(
                f"{between} samples between {ends} were asked for; give two ends or more, and 1 or more between them"
            )
        place = torch.arange((ends - 1) * (between + 1) + 1)
        first = (place // (between + 1)).clamp(max=ends - 2)
        return cls(first, first + 1, (place - first * (between + 1)).double() / (between + 1))

    def __len__(self) -> int:
        return len(self.share)

    def rows(self, rows: slice) -> Stops:
        """Some of them."""
        return Stops(self.first[rows], self.second[rows], self.share[rows])


@dataclass(frozen=True)
class Between:
    """Where walks begin that lead to samples between others; it takes an `Edit`'s place in a walk, and changes nothing else."""

    seeds: Sequence[int]
    """Of the ends."""
    shape: tuple[int, ...]
    """Of x0."""
    stops: Stops
    strength: float = 1.0
    """The whole way is walked."""

    def rows(self, rows: slice) -> Between:
        """Those of these samples."""
        return replace(self, stops=self.stops.rows(rows))

    def path(self, times: Tensor) -> Tensor:
        """The whole grid."""
        return times

    def begin(self, process: Process[Any], t: Tensor, rng: Streams) -> Tensor:
        """x_1 (B, *): see `turned`; where both ends have one seed, its own."""
        first, second = ([self.seeds[end] for end in ends.tolist()] for ends in (self.stops.first, self.stops.second))
        a, b = (process.prior(self.shape, Streams(seeds)) for seeds in (first, second))
        same = torch.tensor([one == other for one, other in zip(first, second, strict=True)])
        return turned(a, b, torch.where(same, 0.0, self.stops.share))

    def keep(self, denoiser: Denoiser, cond: Cond | None) -> tuple[Denoiser, Cond | None]:
        """Both as they were: all is made."""
        return denoiser, cond


def blended(cond: Cond | None, stops: Stops) -> Cond | None:
    """The condition of each stop, from that of the ends (K, *): texts in between, all else as it is at both ends.

    A network hears a token that is there in part as one of so much weight among the others, see carrara.networks.text.

    Raises InputError where the ends differ in something that nothing lies between, such as a class, or letters.
    """
    if cond is None:
        return None
    found: dict[str, Tensor] = {}
    for prefix in ("", AGAINST):
        text, mask = (cond.get(prefix + name) for name in (TEXT, MASK))
        if text is not None and mask is not None:
            found |= {prefix + name: value for name, value in _texts(text, mask, stops).items()}
    for name, value in cond.items():
        if name not in found:
            found[name] = _common(name, value, stops)
    return {name: found[name] for name in cond}


def _texts(text: Tensor, mask: Tensor, stops: Stops) -> Cond:
    """States (B, T, W) in between, and how far each is there, float (B, T): what one end alone has comes and goes with the share.

    Raises InputError for ends that differ in letters.
    """
    (a, b), (in_a, in_b) = ((value[stops.first], value[stops.second]) for value in (text, mask))
    if torch.equal(a, b) and torch.equal(in_a, in_b):
        return {TEXT: a, MASK: in_a}
    if not text.is_floating_point():
        raise InputError(
            "this model reads its prompts letter by letter, and nothing lies between two letters; give one prompt and go between "
            "seeds, or train with a frozen encoder, such as condition.encoder=minilm"
        )
    share = stops.share.to(text)[:, None]
    made = torch.where(in_a[..., None], torch.where(in_b[..., None], torch.lerp(a, b, share[..., None]), a), b)
    there = torch.lerp(in_a.to(text), in_b.to(text), share)
    return {TEXT: made.masked_fill(there[..., None] == 0, 0), MASK: there}


def _common(name: str, value: Tensor, stops: Stops) -> Tensor:
    """What both ends of each stop share. Raises InputError where they do not."""
    first, second = value[stops.first], value[stops.second]
    if not torch.equal(first, second):
        raise InputError(
            f"nothing lies between one {name.removeprefix(AGAINST)} and another; give all ends the same, and go between seeds or "
            "prompts"
        )
    return first


def check_walk(process: Any, name: str, stochastic: bool, options: Any, others: Sequence[str]) -> None:
    """Raises InputError where a sampler adds noise of its own, or x0 is of tokens, so that neighbours would not be alike."""
    if process.made_of != "numbers":
        raise InputError(
            f"what is made of {process.made_of} has nothing in between; go between samples of a model of pictures"
        )
    if stochastic and options.get("eta") != 0:
        raise InputError(
            f"the sampler {name!r} adds noise on the way, so that neighbours would not be alike; choose one that does not: "
            f"{', '.join(others)}"
        )
