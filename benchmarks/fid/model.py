"""The FID of a trained model: its samples against the training pictures that the floor is measured against."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

import carrara
from benchmarks.rivals.pictures import labels_in_turn
from benchmarks.rivals.races import in_chunks
from carrara import files
from carrara.data import Dataset
from carrara.errors import InputError
from carrara.evaluation.frechet import Normal
from carrara.evaluation.settings import plain, weights_sha256
from carrara.evaluation.uncertainty import estimate
from carrara.model import Model

BATCH = 50


def trained(run: Path) -> Model:
    """The model of a run. Raises InputError where there is none, with the command that makes it."""
    if not files.present(run / "model").is_dir():
        raise InputError(
            f"there is no trained model in {run}: `make bench-fashion` trains runs/fashion in eight minutes; or name "
            "another run with --run, or leave the model out with --stage floor peers"
        )
    return carrara.load(run)


def way(model: Model) -> dict[str, Any]:
    """How the model's own recipe has it sampled, as plain data."""
    sampling, _ = model.plan(1, {})
    found: dict[str, Any] = plain(dataclasses.asdict(sampling))
    return found


def key(model: Model) -> str:
    """Eight letters that change with the weights and with the way to sample."""
    known = f"{weights_sha256(model)} {json.dumps(way(model), sort_keys=True)}"
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def samples(model: Model, dataset: Dataset, n: int, kept: Path) -> Tensor:
    """n samples uint8, seeds 0 … n − 1, the classes in turn, as `carrara evaluate` draws them; kept by the hundred."""

    def made(start: int, count: int) -> Tensor:
        label = labels_in_turn(dataset, start, count).tolist() if dataset.classes else None
        pictures: Tensor = model.sample(seeds=range(start, start + count), batch=BATCH, label=label)
        return pictures

    return in_chunks(n, kept / f"samples-{key(model)}", made)


def figures(model: Model, features: Tensor, reference: Normal, replicates: int) -> dict[str, Any]:
    """The figures of the samples' features (n, dim), and what was sampled how."""
    found = estimate(features, reference, replicates=replicates)
    return {
        f"model_{len(features)}": found.value,
        "model_infinite": found.infinite,
        "model_low": found.low,
        "model_high": found.high,
        "model_n": len(features),
        "model_sampling": way(model),
        "model_weights_sha256": weights_sha256(model),
    }
