"""All measurements of a model at once: it is sampled, its samples are measured, and the figures are kept.

model ──sample──► pictures ──► frechet          how far they are from real ones, with floor and ceiling
                           ├─► kid              the same with no bias, by all pairs of pictures
                           ├─► precision        how many lie among real ones, and how much of what is real they cover
                           ├─► classes          how many are read as the class that was asked for
                           ├─► neighbours       whether they are training pictures over again
                           ├─► inception_score  what Inception's classifier makes of them; only where it is asked for
                           └─► clip_score       how well they fit their classes' names, to a CLIP; only where it is asked for
held-out pictures ──model──► nll                how many bits it needs for them; slow, so only where it is asked for

What is measured of features is measured of the same ones: each picture passes through the network once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from carrara import about, files
from carrara.errors import InputError
from carrara.evaluation import clips
from carrara.evaluation.beside import Logits, Sets, inception_scores, kernel_distance, overlaps
from carrara.evaluation.clip import Clip
from carrara.evaluation.diversity import K
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.measure import frechet
from carrara.evaluation.metrics import (
    ASKED,
    LABELLED,
    METRICS,
    UNDRAWN,
    check_backend,
    check_names,
    check_options,
)
from carrara.evaluation.neighbours import memorisation
from carrara.evaluation.nll import check as check_nll
from carrara.evaluation.nll import nll
from carrara.evaluation.prompts import prompted, wishes_of
from carrara.evaluation.reader import Reader
from carrara.evaluation.reference import Reference
from carrara.evaluation.settings import Report, settings, stage
from carrara.evaluation.statistics import Moments
from carrara.evaluation.statistics_file import write_statistics
from carrara.evaluation.streaming import moments_of
from carrara.evaluation.texts.evaluate import of_texts
from carrara.evaluation.texts.judges import Judge

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model

EFFICIENTNET = "efficientnet"
"""What pictures are compared by where nobody said."""
FEATURED = {"frechet": 2, "kid": 2, "precision": K + 1, "inception_score": 1}
"""Those that are made of features, and how many pictures they need on each side."""
LEAST = {**FEATURED, "clip_score": 2}


def evaluate(
    model: Model,
    dataset: Dataset,
    n: int = 1000,
    metrics: Sequence[str] | None = None,
    features: Features | str = EFFICIENTNET,
    seed: int = 0,
    progress: Report | None = None,
    *,
    judge: Judge | str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The figures of n samples, and of the model itself, plain data, ready for JSON: see `of_pictures`, and for texts `of_texts`.

    `features` and the options reference, statistics and clip are for pictures, `judge` is for texts: InputError where it is the
    other. What else is given goes to `Model.sample`.
    """
    noun = dataset.train.noun
    check_options({**options, "judge": judge, "features": None if features == EFFICIENTNET else features}, noun)
    if noun == "text":
        return of_texts(model, dataset, n, metrics, seed, progress, judge, **options)
    return of_pictures(model, dataset, n, metrics, features, seed, progress, **options)


def of_pictures(
    model: Model,
    dataset: Dataset,
    n: int = 1000,
    metrics: Sequence[str] | None = None,
    features: Features | str = EFFICIENTNET,
    seed: int = 0,
    progress: Report | None = None,
    reference: Path | None = None,
    statistics: Path | None = None,
    clip: Clip | Path | None = None,
    **wishes: Any,
) -> dict[str, Any]:
    """The figures of n samples, seeds `seed` … `seed` + n − 1, by default of the classes, or held-out captions, in turn.

    `metrics` are names in METRICS (None: all that apply to the model but those in ASKED; "nll" is of n held-out pictures, and
    alone needs no samples); `features` is what pictures are compared by: the Fréchet distance, KID, precision and recall;
    `reference` is a statistics file to take the Fréchet distance from, then the only metric; the statistics of all samples go into
    the file `statistics`; `clip` is the Clip of the metric "clip_score", or its folder;
    `wishes` go to `Model.sample`: batch, label, steps, sampler, guidance_scale, ….
    Beside the metrics the figures hold the sampling settings, evaluations a sample, seconds, date, versions and hardware;
    `data_matches` says whether the dataset is the one the model was trained on.
    Raises InputError for what cannot be measured, before anything is sampled; NonFinite when samples are.
    """
    chosen = applicable(model, dataset, alone(metrics, reference), n)
    network = seeing(features, chosen, reference, statistics)
    judge = judging(clip, chosen)
    wishes = wishes_of(model, dataset, n, wishes)
    sampling, cond = model.plan(n, {name: wish for name, wish in wishes.items() if name != "batch"})
    start = time.perf_counter()
    drawn = statistics is not None or any(name not in UNDRAWN for name in chosen)
    samples = model.sample(n, seed=seed, progress=stage(progress, "sampling"), **wishes) if drawn else None
    sampled = time.perf_counter()
    labels = None if cond is None else cond.get("label")
    taken = Taken(model, n, seed, samples, labels, wishes.get("prompt"), dataset, network, reference, judge, progress)
    measured = {name: _MEASURE[name](taken) for name in chosen}
    if statistics is not None:
        write_statistics(statistics, taken.moments())
    return {
        **about.surroundings(),
        **settings(model, dataset, n, seed, sampling),
        "features": features if isinstance(features, str) else features.name,
        **({} if reference is None else {"reference_sha256": files.sha256(reference)}),
        **({"sampling_s": round(sampled - start, 3)} if drawn else {}),
        "measuring_s": round(time.perf_counter() - sampled, 3),
        **measured,
    }


def alone(metrics: Sequence[str] | None, reference: Path | None) -> Sequence[str] | None:
    """The metrics, only the Fréchet distance with a reference of its own. Raises InputError where others were asked for."""
    if reference is None:
        return metrics
    if metrics and list(metrics) != ["frechet"]:
        raise InputError(
            f"a statistics file holds a mean and a covariance, which only frechet is measured against; {', '.join(metrics)} "
            "need pictures: leave the reference out, or the metrics"
        )
    return ["frechet"]


def seeing(
    features: Features | str, chosen: Sequence[str], reference: Path | None, statistics: Path | None
) -> Features | str:
    """The Features of that kind where something is made of them. Raises InputError where they are not what that needs."""
    if statistics is None and not FEATURED.keys() & set(chosen):
        return features
    found = load_features(features) if isinstance(features, str) else features
    if reference is not None:
        Reference.read(reference, found)
    if "inception_score" in chosen:
        Logits.of(found)
    return found


def judging(clip: Clip | Path | None, chosen: Sequence[str]) -> Clip | None:
    """The Clip that is asked. Raises InputError where one is needed and not given, or given and not needed."""
    if (clip is None) == ("clip_score" not in chosen):
        return clips.load(clip) if isinstance(clip, Path) else clip
    if clip is None:
        raise InputError(
            "the metric 'clip_score' needs a CLIP: give its folder, `--clip runs/clip-emoji`, carrara's or transformers'"
        )
    raise InputError("a CLIP is of use to the metric 'clip_score' alone; ask for that too, or leave the CLIP out")


def applicable(model: Model, dataset: Dataset, metrics: Sequence[str] | None, n: int) -> list[str]:
    """The metrics that are to be measured. Raises InputError for those that cannot be."""
    possible = [
        name
        for name in METRICS
        if name not in LABELLED or labelled(model, dataset) or (name == "clip_score" and captioned(model, dataset))
    ]
    check_names(metrics or (), "picture")
    for name in metrics or ():
        if name not in possible:
            raise InputError(
                f"the metric {name!r} asks whether a sample shows its label; this model has no labels, or not this data's"
            )
    some = min(n, len(dataset.heldout), len(dataset.train))
    usual = [name for name in possible if name not in ASKED and not (name == "precision" and some <= K)]
    chosen = [name for name in possible if name in metrics] if metrics else usual
    check_counts(chosen, dataset, n)
    if "nll" in chosen:
        check_backend(model, "nll")
        check_nll(model, dataset, n)
    if tuple(model.shape) != tuple(dataset.shape):
        raise InputError(f"the model makes pictures {model.shape}, and {dataset.name} has pictures {dataset.shape}")
    return chosen


def check_counts(chosen: Sequence[str], dataset: Dataset, n: int) -> None:
    """Raises InputError where n samples, or the dataset's pictures, are too few for one of the metrics."""
    sides = {"samples": n, "held-out pictures": len(dataset.heldout), "training pictures": len(dataset.train)}
    for name in chosen:
        least = LEAST.get(name, 1)
        for what, count in sides.items():
            if count < least:
                raise InputError(f"{count} {what} are too few: {name} needs {least} or more")


def labelled(model: Model, dataset: Dataset) -> bool:
    """Whether the model is asked for the dataset's classes."""
    return "label" in (model.condition.null(1) or {}) and model.classes == dataset.classes


def captioned(model: Model, dataset: Dataset) -> bool:
    """Whether the model is asked for what the dataset's captions say."""
    return prompted(model) and dataset.heldout.captions is not None


@dataclass(frozen=True, eq=False)
class Taken:
    """Samples with the classes they were asked to show (none where only the model is asked), and what they are measured against."""

    model: Model
    n: int
    seed: int
    samples: Tensor | None
    labels: Tensor | None
    prompts: Sequence[str] | str | None
    """What samples were asked for in words; None where they were not."""
    dataset: Dataset
    features: Features | str
    reference: Path | None
    clip: Clip | None
    progress: Report | None

    def moments(self) -> Moments:
        """The moments of all samples."""
        assert self.samples is not None and not isinstance(self.features, str)
        return moments_of(self.samples, self.features, progress=stage(self.progress, "features"))

    def sets(self, features: Features, what: str) -> Sets:
        """The samples and the real pictures beside them, as these features see them."""
        assert self.samples is not None
        return Sets(self.samples, self.dataset, features, progress=stage(self.progress, what))

    @cached_property
    def seen(self) -> Sets:
        """The same by the features that were chosen."""
        assert not isinstance(self.features, str)
        return self.sets(self.features, "features")


def _frechet(taken: Taken) -> dict[str, Any]:
    progress = stage(taken.progress, "Fréchet distance")
    assert taken.samples is not None
    found = frechet(
        taken.samples, taken.dataset, taken.features, reference=taken.reference, interval=True, progress=progress
    )
    return found.as_dict()


def _kid(taken: Taken) -> dict[str, Any]:
    return kernel_distance(taken.seen)


def _precision(taken: Taken) -> dict[str, Any]:
    return overlaps(taken.seen)


def _inception_score(taken: Taken) -> dict[str, Any]:
    assert not isinstance(taken.features, str)
    return inception_scores(taken.sets(Logits.of(taken.features), "Inception Score"))


def _clip_score(taken: Taken) -> dict[str, Any]:
    assert taken.samples is not None and taken.clip is not None
    progress = stage(taken.progress, "CLIP score")
    if taken.prompts is not None:
        return clips.prompts_score(taken.samples, taken.prompts, taken.dataset, taken.clip, progress)
    assert taken.labels is not None
    return clips.classes_score(taken.samples, taken.labels, taken.dataset, taken.clip, progress)


def _classes(taken: Taken) -> dict[str, Any]:
    assert taken.labels is not None and taken.samples is not None
    reader = Reader.fit(taken.dataset, progress=stage(taken.progress, "classifier"))
    return {
        "rate": reader.read_rate(taken.samples, taken.labels),
        "chance": 1 / len(reader.classes),
        "accuracy": reader.accuracy,
        "accuracy_n": reader.accuracy_n,
        "train_n": reader.train_n,
        "n": len(taken.samples),
    }


def _neighbours(taken: Taken) -> dict[str, Any]:
    assert taken.samples is not None
    return memorisation(taken.samples, taken.dataset, progress=stage(taken.progress, "nearest neighbours")).as_dict()


def _nll(taken: Taken) -> dict[str, Any]:
    return nll(taken.model, taken.dataset, taken.n, taken.seed, progress=taken.progress).as_dict()


_MEASURE: dict[str, Callable[[Taken], dict[str, Any]]] = {
    "frechet": _frechet,
    "kid": _kid,
    "precision": _precision,
    "inception_score": _inception_score,
    "clip_score": _clip_score,
    "classes": _classes,
    "neighbours": _neighbours,
    "nll": _nll,
}
