"""Does a picture show what was asked for? Pictures beside their captions, as a Clip sees both.

    CLIP score     2.5 · max(cos(picture, caption), 0), in the mean over pictures
    R-precision    the share of pictures whose own caption ranks first among R: itself and R − 1 others

A cosine means little by itself: it depends on the Clip, and even a picture's cosine with a stranger's caption is above 0.
So the score has a floor, the same pictures beside one another's captions, and a ceiling, the real pictures the captions
were written for; R-precision has the floor 1 / R, which is chance.

Both can be raised without better pictures by a model trained or guided by the same Clip: measure with another.

Sources: CLIPScore: A Reference-free Evaluation Metric for Image Captioning, Hessel et al., 2021, section 3, where the
2.5 is. Many print 100 · max(cos, 0), here `percent`. R-precision: AttnGAN, Xu et al., 2018, section 4.1, with R = 100;
with a CLIP: Benchmark for Compositional Text-to-Image Synthesis, Park et al., 2021.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carrara.errors import InputError, NonFinite
from carrara.evaluation.clip import Clip
from carrara.evaluation.features import checked_colours
from carrara.evaluation.inputs import Counter, Progress, batches

WEIGHT = 2.5
CANDIDATES = 100
BATCH = 64
CHUNK_VALUES = 4_000_000
"""Cosines held at a time."""


@dataclass(frozen=True, eq=False)
class Captioned:
    """Pictures and their captions in a Clip's space: what both measures are made of, embedded once."""

    pictures: Tensor
    """Of the samples, (N, D) float64, length 1."""
    sentences: Tensor
    """Of the U different captions, (U, D) float64, length 1."""
    own: Tensor
    """Which of them is each sample's, (N,) int64."""
    real: Tensor | None
    """Of the real pictures the captions were written for, (N, D); None where there are none."""
    clip: str
    sha256: str

    @classmethod
    def of(
        cls,
        samples: Tensor,
        captions: Sequence[str],
        clip: Clip,
        *,
        real: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Captioned:
        """What `clip` makes of samples, uint8 (N, C, H, W), C = 1 or 3, N ≥ 2, and of the caption of each.

        `real` are the pictures the captions were written for, (N, C, H', W'), in the same order. Progress counts
        pictures and captions. Raises InputError on other pictures, or another number of them than of captions,
        NonFinite where an embedding is.
        """
        _check_counts(samples, captions, real)
        words = list(dict.fromkeys(captions))
        place = {caption: index for index, caption in enumerate(words)}
        counter = Counter(len(words) + len(samples) + (0 if real is None else len(real)), progress)
        return cls(
            pictures=_seen(samples, clip, counter),
            sentences=_read(words, clip, counter),
            own=torch.tensor([place[caption] for caption in captions]),
            real=None if real is None else _seen(real, clip, counter),
            clip=clip.name,
            sha256=clip.sha256,
        )


@dataclass(frozen=True)
class ClipScore:
    """A CLIP score in [0, 2.5] with its scale; `as_dict()` is for JSON."""

    value: float
    error: float
    """The standard error of `value` over draws of pictures with their captions."""
    floor: float | None
    """The score of the same pictures beside one another's captions; None where nearly all captions are one."""
    ceiling: float | None
    """The score of real pictures beside their own captions; None where there were none."""
    above_floor: float | None
    """The share of samples nearer to their own caption than to the stranger's, an equal one counting half."""
    n: int
    clip: str
    sha256: str

    @property
    def percent(self) -> float:
        """100 · max(cos, 0) in the mean, as many tools print it: 40 times `value`."""
        return 100 / WEIGHT * self.value

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All figures, as JSON takes them."""
        return {**dataclasses.asdict(self), "percent": self.percent}

    def __str__(self) -> str:
        scale = f"floor {_figure(self.floor)}, ceiling {_figure(self.ceiling)}"
        return (
            f"CLIP score {self.value:.3f} ± {self.error:.2g} ({scale}; 2.5 · max(cos, 0), "
            f"{self.percent:.1f} % cosine; n = {self.n}, {self.clip})"
        )


@dataclass(frozen=True)
class RPrecision:
    """An R-precision in [0, 1] with its scale; `as_dict()` is for JSON."""

    value: float
    error: float
    """The standard error of `value` over draws of pictures with their captions."""
    chance: float
    """1 / R: the floor."""
    ceiling: float | None
    """That of real pictures; None where there were none."""
    candidates: int
    """R: 100, or all different captions where there are fewer."""
    n: int
    clip: str
    sha256: str

    def as_dict(self) -> dict[str, str | int | float | None]:
        """All fields, as JSON takes them."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return (
            f"R-precision {self.value:.3f} ± {self.error:.2g} (chance {self.chance:.3g}, "
            f"ceiling {_figure(self.ceiling)}; 1 of {self.candidates} captions, n = {self.n}, {self.clip})"
        )


def clip_score(captioned: Captioned, *, seed: int = 0) -> ClipScore:
    """The ClipScore of the samples; `seed` decides whose caption each is given for the floor."""
    mine = _scores(captioned.pictures, captioned.sentences[captioned.own])
    ceiling = None if captioned.real is None else _scores(captioned.real, captioned.sentences[captioned.own]).mean()
    strangers = derangement(captioned.own, seed)
    theirs = None if strangers is None else _scores(captioned.pictures, captioned.sentences[captioned.own[strangers]])
    return ClipScore(
        value=float(mine.mean()),
        error=_standard_error(mine),
        floor=None if theirs is None else float(theirs.mean()),
        ceiling=None if ceiling is None else float(ceiling),
        above_floor=None if theirs is None else _share_above(mine, theirs),
        n=len(mine),
        clip=captioned.clip,
        sha256=captioned.sha256,
    )


def r_precision(captioned: Captioned, candidates: int = CANDIDATES) -> RPrecision:
    """The RPrecision of the samples among `candidates` captions, fewer where there are fewer different ones.

    No caption is drawn: the value is the exact mean over all choices of the others among the captions that differ.
    Raises InputError when `candidates` is below 2, or all captions are one.
    """
    different = len(captioned.sentences)
    if candidates < 2 or different < 2:
        raise InputError(
            f"a rank among {candidates} captions cannot be had from {different} different ones: at least 2 are needed."
        )
    r = min(candidates, different)
    credit = _first(captioned.pictures, captioned, r)
    return RPrecision(
        value=float(credit.mean()),
        error=_standard_error(credit),
        chance=1 / r,
        ceiling=None if captioned.real is None else float(_first(captioned.real, captioned, r).mean()),
        candidates=r,
        n=len(credit),
        clip=captioned.clip,
        sha256=captioned.sha256,
    )


def derangement(own: Tensor, seed: int = 0) -> Tensor | None:
    """For each of N items another one (N,) int64 whose group differs, each taken once; None where there is no such.

    `own` (N,) int64 are the groups. Items are put into one line by group, and everyone takes the item as many places
    on as the greatest group has members; groups, and the items in each, stand in a random order.
    """
    _, groups, counts = torch.unique(own, return_inverse=True, return_counts=True)
    most = int(counts.max())
    if 2 * most > len(own):
        return None
    rng = torch.Generator().manual_seed(seed)
    items = torch.randperm(len(own), generator=rng)
    line = items[torch.randperm(len(counts), generator=rng)[groups[items]].argsort(stable=True)]
    others = torch.empty_like(line)
    others[line] = line.roll(-most)
    return others


def _scores(pictures: Tensor, sentences: Tensor) -> Tensor:
    """2.5 · max(cos, 0) of rows beside rows, (N,)."""
    return WEIGHT * (pictures * sentences).sum(1).clamp(min=0)


def _first(pictures: Tensor, captioned: Captioned, r: int) -> Tensor:
    """The probability (N,) that each picture's own caption ranks first among r, the others drawn at random.

    Where `nearer` of the M others beat it, none of them is drawn with p(nearer) = C(M − nearer, r − 1) / C(M, r − 1).
    Captions at the very same cosine stand in a random order, which makes it the mean of p over their places.
    """
    nearer, level = _ranks(pictures, captioned)
    others = len(captioned.sentences) - 1
    logs = torch.lgamma(torch.arange(others + 2, dtype=torch.float64) + 1)
    free = others - torch.arange(others + 1)
    p = torch.where(free >= r - 1, logs[free] - logs[(free - r + 1).clamp(min=0)], -torch.inf)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), (p - p[0]).exp().cumsum(0)])
    return (total[nearer + level + 1] - total[nearer]) / (level + 1)


def _ranks(pictures: Tensor, captioned: Captioned) -> tuple[Tensor, Tensor]:
    """For each picture, how many other captions are nearer to it than its own, and how many equally near, (N,) int64."""
    nearer, level = [], []
    for rows in batches(torch.arange(len(pictures)), max(1, CHUNK_VALUES // len(captioned.sentences))):
        cosines = pictures[rows] @ captioned.sentences.T
        mine = cosines.gather(1, captioned.own[rows, None])
        nearer.append((cosines > mine).sum(1))
        level.append((cosines == mine).sum(1) - 1)
    return torch.cat(nearer), torch.cat(level)


def _seen(images: Tensor, clip: Clip, counter: Counter) -> Tensor:
    parts = []
    for part in batches(checked_colours(images), BATCH):
        parts.append(_finite(clip.images(part.expand(-1, 3, -1, -1)), clip))
        counter.advance(len(part))
    return torch.cat(parts)


def _read(captions: Sequence[str], clip: Clip, counter: Counter) -> Tensor:
    parts = []
    for start in range(0, len(captions), BATCH):
        part = captions[start : start + BATCH]
        parts.append(_finite(clip.texts(part), clip))
        counter.advance(len(part))
    return torch.cat(parts)


def _finite(vectors: Tensor, clip: Clip) -> Tensor:
    if not torch.isfinite(vectors).all():
        raise NonFinite(f"embeddings of {clip.name} hold NaN or infinity: its weights, or its input, are broken.")
    # Length 1 in float32 is not quite 1 in float64, and a mean over many pictures would show it.
    return torch.nn.functional.normalize(vectors.detach().cpu().double(), dim=1)


def _check_counts(samples: Tensor, captions: Sequence[str], real: Tensor | None) -> None:
    if isinstance(captions, str) or len(captions) != len(samples):
        given = "one string" if isinstance(captions, str) else str(len(captions))
        raise InputError(f"{len(samples)} samples need as many captions, one each; got {given}.")
    if len(samples) < 2:
        raise InputError(f"a score with an error needs at least 2 pictures; got {len(samples)}.")
    if real is not None and len(real) != len(captions):
        raise InputError(
            f"`real` are the pictures that the {len(captions)} captions were written for, one each; got {len(real)}."
        )


def _standard_error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


def _share_above(mine: Tensor, theirs: Tensor) -> float:
    return float((mine > theirs).double().mean() + (mine == theirs).double().mean() / 2)


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
