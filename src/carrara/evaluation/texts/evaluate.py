"""All measurements of a model of texts at once: what it knows of held-out text, and how much its samples are like text.

held-out text ──model──► bits          how many bits a character it needs
model ──sample──► texts ──► judge       how probable they are to an outside reader, never without their entropy
                       ├─► entropy     how varied their words are
                       ├─► distinct    and their n-grams
                       └─► repetition  how much of a text comes in it twice

Each figure of samples stands beside those of as much held-out text, and of the same with its words shuffled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrara import about
from carrara.errors import InputError
from carrara.evaluation.metrics import TEXT_METRICS, UNDRAWN, check_backend, check_names
from carrara.evaluation.settings import Report, settings, stage
from carrara.evaluation.texts.beside import Beside
from carrara.evaluation.texts.bits import bits
from carrara.evaluation.texts.judges import Judge, judge_of

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

MEASURED = {
    "judge": ("perplexity", "unknown", "entropy"),
    "entropy": ("entropy",),
    "distinct": ("distinct_1", "distinct_2", "distinct_3"),
    "repetition": ("repeated", "longest"),
}
"""The measures of samples that each metric is made of."""


def of_texts(
    model: Model,
    dataset: Dataset,
    n: int = 1000,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    progress: Report | None = None,
    judge: Judge | str | Path | None = None,
    **wishes: Any,
) -> dict[str, Any]:
    """The figures of n samples, seeds `seed` … `seed` + n − 1, and of n held-out windows; plain data, ready for JSON.

    `metrics` are names in TEXT_METRICS (None: all; of a model that needs a source only "bits"); `judge` is "pocketsphinx", which
    None is, a Judge, or the folder of one; `wishes` go to `Model.sample`. "bits" alone needs no samples.
    Raises InputError for what cannot be measured, before anything is sampled.
    """
    chosen = applicable(model, dataset, metrics)
    reader = _reader(judge, chosen)
    drawn = any(name not in UNDRAWN for name in chosen)
    sampled = {name: wish for name, wish in wishes.items() if name != "batch"}
    sampling = model.plan(n, sampled)[0] if drawn else model.sampling
    start = time.perf_counter()
    samples = model.sample(n, seed=seed, progress=stage(progress, "sampling"), **wishes) if drawn else []
    measuring = time.perf_counter()
    measured: dict[str, Any] = {}
    if "bits" in chosen:
        measured["bits"] = bits(model, dataset, n, seed, progress=progress).as_dict()
    if drawn:
        measured |= of_samples(Beside.of(samples, model, dataset, reader), chosen)
    return {
        **about.surroundings(),
        **settings(model, dataset, n, seed, sampling),
        **({"sampling_s": round(measuring - start, 3)} if drawn else {}),
        "measuring_s": round(time.perf_counter() - measuring, 3),
        **measured,
    }


def of_samples(beside: Beside, chosen: Sequence[str]) -> dict[str, Any]:
    """The figures of the metrics that are of samples."""
    found = {name: beside.figures(MEASURED[name]) for name in chosen if name in MEASURED}
    if reader := beside.samples.judge:
        found["judge"] |= {"judge": reader.name, "sha256": reader.sha256, "unit": reader.unit}
    return found


def applicable(model: Model, dataset: Dataset, metrics: Sequence[str] | None) -> list[str]:
    """The metrics that are to be measured. Raises InputError for those that cannot be."""
    check_names(metrics or (), "text")
    if dataset.train.noun != "text" or model.shape:
        raise InputError(
            f"the model does not make texts, or {dataset.name} has none; measure it on what it was trained on"
        )
    usual = UNDRAWN if "source_vocab" in model.condition.told() else TEXT_METRICS
    chosen = [name for name in TEXT_METRICS if name in (metrics or usual)]
    if "bits" in chosen:
        check_backend(model, "bits")
    return chosen


def _reader(judge: Judge | str | Path | None, chosen: Sequence[str]) -> Judge | None:
    """The judge that is asked. Raises InputError where one is given and not needed, or there is none of that name."""
    if "judge" not in chosen:
        if judge is None:
            return None
        raise InputError("a judge is of use to the metric 'judge' alone; ask for that too, or leave the judge out")
    return judge_of(judge)
