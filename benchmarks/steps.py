"""Few evaluations against a thousand: the Fréchet distance of fashion's samples, `make bench-steps`.

The reference is DDPM's way, ancestral sampling in 1000 steps, of the same model. It takes an hour; samples are kept in runs/steps
by the hundred, so the command can be stopped and goes on where it was. No guidance: one evaluation of the network a step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import carrara
from benchmarks.result import report
from carrara.data import Dataset
from carrara.evaluation.measure import yardstick
from carrara.evaluation.settings import weights_sha256
from carrara.model import Model
from carrara.training.run import dataset_of

RUN = Path("runs/fashion")
KEPT = Path("runs/steps")
CHUNK = 100
DDPM = {"sampler": "ancestral", "steps": 1000, "times": {"kind": "uniform"}}
UNIFORM = {"kind": "uniform"}
LOGISTIC = {"kind": "logistic"}
WIDE = {"kind": "logistic", "mean": -0.1, "scale": 1.4}
WAYS: dict[str, dict[str, Any]] = {
    "ddpm_1000": DDPM,
    "adams_logistic_20": {"sampler": "adams", "steps": 20, "times": LOGISTIC},
    "adams_logistic_8": {"sampler": "adams", "steps": 8, "times": LOGISTIC},
    "adams_uniform_8": {"sampler": "adams", "steps": 8, "times": UNIFORM},
    "dpmpp_2m_wide_8": {"sampler": "dpmpp_2m", "steps": 8, "times": WIDE},
    "heun_uniform_8": {"sampler": "heun", "steps": 4, "times": UNIFORM},
    "euler_uniform_8": {"sampler": "euler", "steps": 8, "times": UNIFORM},
    "ancestral_uniform_8": {"sampler": "ancestral", "steps": 8, "times": UNIFORM},
    "adams_logistic_5": {"sampler": "adams", "steps": 5, "times": LOGISTIC},
    "dpmpp_2m_wide_5": {"sampler": "dpmpp_2m", "steps": 5, "times": WIDE},
    "euler_uniform_5": {"sampler": "euler", "steps": 5, "times": UNIFORM},
}
"""What is compared, by name; the number at its end is that of the network's evaluations (of heun's, 7)."""

NOTES = {
    "fashion": "ratio_8, ratio_5: the Fréchet distance of adams_logistic at 8 and at 5 evaluations over that of ddpm_1000",
    "frechet": "Fréchet distance of each way to sample",
    "floor": "the same for held-out pictures",
    "ceiling": "the same for uniform noise",
    "n": "pictures behind each distance",
    "reference": "what the pictures are compared with",
}


def main() -> None:
    """Samples what is missing, measures everything, reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="samples of each way, a multiple of 100")
    n = parser.parse_args().n
    model = carrara.load(RUN)
    dataset: Dataset = dataset_of(model.recipe)
    measure = yardstick(dataset, n)
    found = {}
    for name, way in WAYS.items():
        found[name] = measure.measure(samples(model, name, way, n)).value
        print(f"{name:24s} {found[name]:8.2f}", flush=True)
    few = {count: found[f"adams_logistic_{count}"] for count in (8, 5)}
    ratios = {f"ratio_{count}": value / found["ddpm_1000"] for count, value in few.items()}
    scale = {"floor": measure.floor, "ceiling": measure.ceiling, "n": n, "reference": measure.reference}
    report("steps", {"fashion": ratios, "frechet": found, **scale, "ways": WAYS}, NOTES)


def samples(model: Model, name: str, way: dict[str, Any], n: int) -> Tensor:
    """n samples, seeds 0 … n − 1, the classes in turn; what is kept is read, what is missing is made and kept."""
    folder = KEPT / f"{name}-{key(model, way)}"
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, n, CHUNK):
        path = folder / f"{start // CHUNK:03d}.npy"
        if not path.exists():
            seeds = list(range(start, start + CHUNK))
            labels = [seed % len(model.classes) for seed in seeds]
            made = model.sample(seeds=seeds, batch=50, label=labels, guidance_scale=1.0, **way)
            np.save(path.with_suffix(".tmp.npy"), made.numpy())
            path.with_suffix(".tmp.npy").rename(path)
        parts.append(torch.from_numpy(np.load(path)))
    return torch.cat(parts)


def key(model: Model, way: dict[str, Any]) -> str:
    """Eight letters that change with the weights, with the way and with the backend."""
    backend = "" if model.backend is None else f" {model.backend.name}"
    known = f"{weights_sha256(model)} {json.dumps(way, sort_keys=True)}{backend}"
    return hashlib.sha256(known.encode()).hexdigest()[:8]


if __name__ == "__main__":
    main()
