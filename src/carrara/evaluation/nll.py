"""Negative log-likelihood: how many bits a model needs for each number of pictures it has never seen, beside plain models.

    bound            the variational bound in continuous time (Kingma et al., 2021), its three terms told
    flow             the probability-flow ODE from the bound's own first time, by the same decoder: the bound's L_0, and the
                     flow's density in place of its other terms
    flow_uniform     the same ODE on pictures spread evenly over their bins, as most papers have it (Song et al., 2021)
    gaussian         one Gaussian, with the mean and the whole covariance of the training pictures
    pixels           every number alone, by how often each of the 256 values was seen there in training, plus one

and 8 bits for a model that knows nothing. Every figure is an upper bound of its model's −log P(picture), with the standard
error of its mean over the same held-out pictures; conditional models are told the true label, and there is no guidance. A
model is measured as it was trained: one trained with another weight than "vlb" was never asked for its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from carrara.data.batches import batch as take
from carrara.decoders import Decoder, bin_width, bits_per_dim, dequantised
from carrara.denoisers import Cond
from carrara.errors import InputError
from carrara.evaluation.inputs import Counter, shuffled
from carrara.evaluation.statistics import Moments
from carrara.likelihood import bound, flow_nats
from carrara.model import evaluating
from carrara.rng import Streams
from carrara.sampling import moved

if TYPE_CHECKING:
    from carrara.data import Dataset, Split
    from carrara.model import Model

BINS = 256
PICTURES = 64
"""How many pictures are measured where nobody said."""
GAUSSIAN_DIMS = 3072
"""The most numbers of a picture whose full covariance is fitted."""
ROWS = 1000
"""Training pictures that are read at once."""


@dataclass(frozen=True)
class Effort:
    """How the integrals are taken. `ratio` is where the bound of a model of fashion is flat and lowest; any is a bound."""

    ratio: float = 0.03
    """sigma / alpha at the first time of the bound and of the flow beside it."""
    decoder: Decoder = "gaussian"
    draws: int = 32
    """Evaluations for the bound's integral."""
    ratio_uniform: float = 0.003
    """sigma / alpha at the first time where pictures are spread over their bins, whose own deviation is 0.0023."""
    steps: int = 16
    """Steps of rk4, of four evaluations with a gradient each."""
    checked: int = 8
    """Pictures of the flow that are walked again in twice the steps, to tell the grid's error."""
    batch: int = 16

    def time(self, model: Model, ratio: float) -> float:
        """The time at which sigma / alpha is this, under the model's schedule."""
        level = torch.tensor(-2 * math.log(ratio), dtype=torch.float64)
        return float(model.denoiser.process.schedule.inverse(level))


@dataclass(frozen=True)
class Figure:
    """A mean over pictures in bits for each number, with its standard error."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, nats: Tensor, dims: int) -> Figure:
        """Of one number of nats a picture, (n,), n ≥ 2."""
        bits = bits_per_dim(nats.double(), dims)
        return cls(float(bits.mean()), float(bits.std()) / math.sqrt(len(bits)))


@dataclass(frozen=True)
class Nll:
    """All figures of one model on n held-out pictures; `as_dict()` is for JSON."""

    figures: Mapping[str, Figure]
    """bound, its terms prior, diffusion and reconstruction, flow, flow_uniform, pixels, and gaussian where it was fitted."""
    n: int
    dims: int
    train_n: int
    flow_grid_error: float
    """How far twice the steps move the flow's mean, bits for each number."""
    weight: str
    """What the model was trained with."""
    effort: Effort

    def as_dict(self) -> dict[str, Any]:
        """All there is, as JSON takes it: the figures by name, beside the rest."""
        whole = asdict(self)
        return {**whole.pop("figures"), **whole, "uniform": math.log2(BINS), "unit": "bits/dim"}


TERMS = ("prior", "diffusion", "reconstruction", "flow", "flow_uniform")
"""What is measured of each picture, in nats."""


def nll(
    model: Model,
    dataset: Dataset,
    n: int = PICTURES,
    seed: int = 0,
    effort: Effort | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Nll:
    """The Nll of a model of pixels on n held-out pictures (all of them where there are fewer), in an order that never changes.

    Picture number i has the random stream of seed + i; `progress` is called with (what is being done, done, total). Raises
    InputError for fewer than 2 pictures, for a codec other than pixels, and for labels that are not the data's.
    """
    check(model, dataset, n)
    effort, n, dims = effort or Effort(), min(n, len(dataset.heldout)), math.prod(dataset.shape)
    fitted = dims <= GAUSSIAN_DIMS
    counter = _counter(3 * n + min(n, effort.checked), "likelihood", progress)
    reading = _counter((1 + fitted) * len(dataset.train), "plain models", progress)
    parts = [_measured(part, effort, counter) for part in _parts(model, dataset, n, seed, effort.batch)]
    found = {name: torch.cat([part[name] for part in parts]) for name in TERMS}
    found["bound"] = found["prior"] + found["diffusion"] + found["reconstruction"]
    error = _grid_error(model, dataset, found["flow"], seed, effort, counter)
    media = _media(dataset, n)
    found["pixels"] = pixel_nats(dataset.train, media, reading)
    if fitted:
        found["gaussian"] = gaussian_nats(dataset.train, media, model.codec, seed, reading)
    return Nll(
        figures={name: Figure.of(nats, dims) for name, nats in found.items()},
        n=n,
        dims=dims,
        train_n=len(dataset.train),
        flow_grid_error=error,
        weight=model.recipe.sections["weight"]["kind"],
        effort=effort,
    )


def _counter(total: int, stage: str, progress: Callable[[str, int, int], None] | None) -> Counter:
    return Counter(total, None if progress is None else lambda done, all_of_it: progress(stage, done, all_of_it))


def check(model: Model, dataset: Dataset, n: int) -> None:
    """Raises InputError where there is no likelihood to measure."""
    if n < 2:
        raise InputError(f"{n} pictures were asked for; a mean with its standard error needs 2 or more")
    codec = model.recipe.sections["codec"]["kind"]
    if codec != "pixels":
        raise InputError(
            f"the metric 'nll' is of pictures in {BINS} grey levels; the codec {codec!r} gives something else"
        )
    if "label" in (model.condition.null(1) or {}) and model.classes != dataset.classes:
        raise InputError("the metric 'nll' tells the model each picture's label, and its classes are not this data's")


@dataclass(frozen=True)
class _Part:
    """Held-out pictures that are measured together."""

    model: Model
    x0: Tensor
    cond: Cond | None
    seeds: range


def _parts(model: Model, dataset: Dataset, n: int, seed: int, size: int) -> Iterator[_Part]:
    """The first n held-out pictures in their fixed order, `size` at a time, on the model's device."""
    picked, device = shuffled(len(dataset.heldout), n), model.denoiser.device
    for start in range(0, n, size):
        batch = take(dataset.heldout, picked[start : start + size])
        x0 = model.codec.encode(batch["media"].to(device))
        cond = moved(model.condition.encode(batch), device)
        yield _Part(model, x0, cond, range(seed + start, seed + start + len(x0)))


def _media(dataset: Dataset, n: int) -> Tensor:
    """The same pictures, uint8 (n, C, H, W)."""
    return torch.from_numpy(np.array(dataset.heldout.pictures[shuffled(len(dataset.heldout), n)]))


def _measured(part: _Part, effort: Effort, counter: Counter) -> dict[str, Tensor]:
    """The TERMS of each picture, (B,) nats on the CPU."""
    denoiser, count = part.model.denoiser, len(part.seeds)
    t_min, near = effort.time(part.model, effort.ratio), effort.time(part.model, effort.ratio_uniform)
    with evaluating(denoiser):
        terms = bound(
            denoiser, part.x0, part.cond, Streams(part.seeds), None, BINS, effort.draws, t_min, effort.decoder
        )
        counter.advance(count)
        flow = _flow(part, effort, counter)
        even = flow_nats(denoiser, part.x0, part.cond, Streams(part.seeds), BINS, "uniform", near, steps=effort.steps)
    counter.advance(count)
    found = (terms.prior, terms.diffusion, terms.reconstruction, flow, even)
    return {name: nats.cpu() for name, nats in zip(TERMS, found, strict=True)}


def _flow(part: _Part, effort: Effort, counter: Counter) -> Tensor:
    """What bounds each picture's −log P along the flow from the bound's first time, (B,) nats on the CPU."""
    denoiser, t_min = part.model.denoiser, effort.time(part.model, effort.ratio)
    rng = Streams(part.seeds)
    with evaluating(denoiser):
        nats = flow_nats(denoiser, part.x0, part.cond, rng, BINS, "noise", t_min, effort.decoder, steps=effort.steps)
    counter.advance(len(part.seeds))
    return nats.cpu()


def _grid_error(model: Model, dataset: Dataset, flow: Tensor, seed: int, effort: Effort, counter: Counter) -> float:
    """How far twice the steps move the mean of the first pictures' `flow`, bits for each number."""
    first = next(_parts(model, dataset, min(len(flow), effort.checked), seed, effort.checked))
    moved_by = _flow(first, replace(effort, steps=2 * effort.steps), counter) - flow[: len(first.seeds)]
    return abs(float(bits_per_dim(moved_by, math.prod(dataset.shape)).mean()))


# ---------------------------------------------------------------------------------------------------- plain models


def pixel_nats(train: Split, media: Tensor, counter: Counter | None = None) -> Tensor:
    """−log P of uint8 pictures (n, C, H, W) where every number stands alone, (n,): P = (seen + 1) / (N + 256)."""
    dims = media[0].numel()
    seen = torch.zeros(dims * BINS, dtype=torch.int64)
    offset = torch.arange(dims) * BINS
    for rows in _rows(train, counter):
        seen += torch.bincount((rows.flatten(1).long() + offset).flatten(), minlength=len(seen))
    nats = ((seen.double() + 1) / (len(train) + BINS)).log().neg()
    each: Tensor = nats[media.flatten(1).long() + offset]
    return each.sum(1)


def gaussian_nats(train: Split, media: Tensor, codec: Any, seed: int, counter: Counter | None = None) -> Tensor:
    """What bounds −log P of uint8 pictures (n, C, H, W) under one Gaussian fitted to dequantised pictures, (n,).

    Spreading a number over its bin adds width² / 12 to its variance: that is all that keeps the covariance from being
    singular where pixels are always black, and it is the data's own.
    """
    dims, width = media[0].numel(), bin_width(BINS)
    moments = Moments(dims)
    for rows in _rows(train, counter):
        moments.update(codec.encode(rows).flatten(1))
    root = torch.linalg.cholesky(moments.cov + width**2 / 12 * torch.eye(dims, dtype=torch.float64))
    x = dequantised(codec.encode(media).double(), BINS, Streams(range(seed, seed + len(media)))).flatten(1)
    white: Tensor = torch.linalg.solve_triangular(root, (x - moments.mean).T, upper=False)
    half_log_det: Tensor = root.diagonal().log().sum()
    size = half_log_det + dims * (0.5 * math.log(2 * math.pi) - math.log(width))
    return 0.5 * white.square().sum(0) + size


def _rows(train: Split, counter: Counter | None) -> Iterator[Tensor]:
    for start in range(0, len(train), ROWS):
        rows = torch.from_numpy(np.array(train.pictures[start : start + ROWS]))
        yield rows
        if counter is not None:
            counter.advance(len(rows))
