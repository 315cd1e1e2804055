"""How many bits a model needs for text that it has never seen, for each character, byte and token of it.

    exact        −log2 P(window) by the formula, of autoregressive models
    bound        at most so many, of masked diffusion and of tokens as vectors: the variational bound, estimated from some shares of
                 hidden tokens, or from some levels of noise

Held-out windows are taken whole, in an order that never changes, and what their tokens cost, end tokens too, is divided by the
characters they stand for. Beside it stand two models that anybody has: every token alone, by how often it was seen in training,
plus one; and nothing known. Blocks of windows are kept by what decides them, so what was stopped goes on, and more windows cost
only what is new.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from carrara import __version__
from carrara.errors import InputError
from carrara.evaluation import cache
from carrara.evaluation.inputs import Counter, shuffled
from carrara.model import evaluating
from carrara.rng import Streams
from carrara.sampling import moved
from carrara.token_likelihood import code_length
from carrara.training.examples import Examples, examples_of

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

DRAWS = 16
"""Evaluations of a masked model for each window."""
BLOCK = 32
"""Windows that are measured and kept together."""
ROWS = 4096
"""Training windows that are counted at once."""
STAGE = "likelihood, windows"


@dataclass(frozen=True)
class Bits:
    """Bits of a number of held-out windows, for each character, byte and token; `as_dict()` is for JSON."""

    per_character: float
    per_byte: float
    per_token: float
    standard_error: float
    """Of `per_character`: other windows of such text would give another figure, and other draws."""
    estimate_error: float
    """The share of it that is of the bound's draws alone: 0 where the figure is exact."""
    exact: bool
    n: int
    windows: int
    """How many held-out windows there are."""
    characters: int
    bytes: int
    tokens: int
    unigram: float
    """Bits a character with every token alone, by training's counts plus one."""
    uniform: float
    """The same where all tokens are alike."""
    draws: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON takes them."""
        return {**asdict(self), "unit": "bits/character"}


def bits(
    model: Model,
    dataset: Dataset,
    n: int | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bits:
    """The Bits of a model of texts on n held-out windows (None: all), each told its condition, without guidance.

    Window number i has the random stream of seed + i; `progress` is called with (what is being done, done, total). Raises
    InputError for fewer than 2 windows or draws, and for windows without a character.
    """
    train, heldout = examples_of(dataset, model.codec)
    n = len(heldout) if n is None else min(n, len(heldout))
    if n < 2 or draws < 2:
        raise InputError(
            f"{n} windows and {draws} draws were asked for; a figure with its error needs 2 or more of both"
        )
    picked = shuffled(len(heldout), n)
    report = None if progress is None else lambda done, total: progress(STAGE, done, total)
    nats, errors = _measured(model, dataset, heldout, picked, seed, draws, Counter(n, report))
    ids = _ids(heldout, picked)
    characters, sizes = _sizes(model.codec, ids)
    if not characters.sum():
        raise InputError(f"{n} held-out windows of {dataset.name} hold no character; ask for more of them")
    alone = _alone(train, model.codec)
    total, per = float(nats.sum()) / math.log(2), int(characters.sum())
    return Bits(
        per_character=total / per,
        per_byte=total / int(sizes.sum()),
        per_token=total / ids.size,
        standard_error=ratio_error(nats.numpy() / math.log(2), characters),
        estimate_error=float(errors.square().sum().sqrt()) / math.log(2) / per,
        exact=bool(getattr(model.denoiser, "exact", False)),
        n=n,
        windows=len(heldout),
        characters=per,
        bytes=int(sizes.sum()),
        tokens=ids.size,
        unigram=float(alone[ids].sum()) / per,
        uniform=math.log2(len(alone)) * ids.size / per,
        draws=draws,
    )


def ratio_error(values: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> float:
    """The standard error of Σ values / Σ sizes over n ≥ 2 pairs drawn together.

    Source: Sampling Techniques, Cochran, 1977, section 2.11, of a ratio.
    """
    rest = values - values.sum() / sizes.sum() * sizes
    return float(np.sqrt(len(rest) * rest.var(ddof=1)) / sizes.sum())


def unigram(ids: npt.NDArray[Any], vocab: int) -> npt.NDArray[np.float64]:
    """−log2 of the share of each of `vocab` tokens in ids (N, L), each counted once more than it comes: (vocab,) bits."""
    counts = np.ones(vocab)
    for start in range(0, len(ids), ROWS):
        counts += np.bincount(ids[start : start + ROWS].ravel(), minlength=vocab)
    each: npt.NDArray[np.float64] = -np.log2(counts / counts.sum())
    return each


def _alone(train: Examples, codec: Any) -> npt.NDArray[np.float64]:
    """−log2 of each token's share of training, see `unigram`."""
    return unigram(_ids(train, np.arange(len(train))), codec.vocab)


def _sizes(codec: Any, ids: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The characters that begin in each window of ids (N, L), and its bytes, both (N,)."""
    each = (np.append(sizes, 0) for sizes in codec.measures())
    characters, lengths = (sizes[ids].sum(1) for sizes in each)
    return characters, lengths


def _ids(examples: Examples, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The windows of these rows (N, L), as they are kept."""
    assert examples.kept is not None
    return examples.kept if len(rows) == len(examples.kept) and (np.diff(rows) == 1).all() else examples.kept[rows]


def _measured(
    model: Model,
    dataset: Dataset,
    heldout: Examples,
    picked: npt.NDArray[np.int64],
    seed: int,
    draws: int,
    counter: Counter,
) -> tuple[Tensor, Tensor]:
    """The nats of each window and the standard error of its estimate, both (N,) float64 on the CPU, block by block."""
    key, parts = _key(model, dataset, seed, draws), []
    for first, rows in _blocks(picked):

        def make(first: int = first, rows: npt.NDArray[np.int64] = rows) -> cache.Tensors:
            return _block(model, heldout, rows, range(seed + first, seed + first + len(rows)), draws)

        parts.append(cache.kept({**key, "first": first, "windows": len(rows)}, cache.cache_folder(), make))
        counter.advance(len(rows))
    return torch.cat([part["nats"] for part in parts]), torch.cat([part["error"] for part in parts])


def _blocks(picked: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    for start in range(0, len(picked), BLOCK):
        yield start, picked[start : start + BLOCK]


def _block(model: Model, heldout: Examples, rows: npt.NDArray[np.int64], seeds: range, draws: int) -> cache.Tensors:
    denoiser, batch = model.denoiser, heldout.batch(rows)
    x0 = heldout.x0(batch, denoiser.device)
    cond = moved(model.condition.encode(batch), denoiser.device)
    with evaluating(denoiser):
        found = code_length(denoiser, x0, cond, Streams(seeds), draws)
    assert found.standard_error is not None
    return {"nats": found.nats.cpu(), "error": found.standard_error.cpu()}


def _key(model: Model, dataset: Dataset, seed: int, draws: int) -> dict[str, str | int]:
    """All that decides the nats of a window, but which one it is."""
    from carrara.evaluation.settings import weights_sha256

    made = {name: model.recipe.sections[name] for name in ("network", "process", "condition")}
    return {
        "what": "nats of held-out windows",
        "carrara": __version__,
        "weights": weights_sha256(model),
        "made": json.dumps(made, sort_keys=True, default=str),
        "data": dataset.fingerprint,
        "codec": model.codec.identity(),
        "seed": seed,
        "draws": draws,
    }
