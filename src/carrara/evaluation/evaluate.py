"""All measurements of a model at once: it is sampled, its samples are measured, and the figures are kept.

model ──sample──► pictures ──► frechet      how far they are from real ones, with floor and ceiling
                           ├─► classes      how many are read as the class that was asked for
                           └─► neighbours   whether they are training pictures over again
held-out pictures ──model──► nll            how many bits it needs for them; slow, so only where it is asked for
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from carrara import __version__, about, files, tensors
from carrara.errors import InputError, nearest
from carrara.evaluation import cache
from carrara.evaluation.features import Features, load_features
from carrara.evaluation.measure import frechet
from carrara.evaluation.neighbours import memorisation
from carrara.evaluation.nll import check as check_nll
from carrara.evaluation.nll import nll
from carrara.evaluation.reader import Reader

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model
    from carrara.sampling import Sampling

METRICS = ("frechet", "classes", "neighbours", "nll")
ASKED = ("nll",)
"""The metrics that are measured only by name: they take minutes."""
FIGURES = "figures.json"
KEY = ("weights_sha256", "n", "seed", "sampling", "features", "data_fingerprint", "backend")
"""What two evaluations must share to be one."""

NOTED = ("measured_with", "frechet_distance", "class_read_rate", "copies_of_training_pictures")
"""The facts of a model's card that an evaluation writes."""

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


def evaluate(
    model: Model,
    dataset: Dataset,
    n: int = 1000,
    metrics: Sequence[str] | None = None,
    features: Features | str = "efficientnet",
    seed: int = 0,
    progress: Report | None = None,
    **wishes: Any,
) -> dict[str, Any]:
    """The figures of n samples, seeds `seed` … `seed` + n − 1, by default of the classes in turn; plain data, ready for JSON.

    `metrics` are names in METRICS (None: all that apply to the model but those in ASKED; "nll" is of n held-out pictures, and
    alone needs no samples); `features` is what the Fréchet distance compares;
    `wishes` go to `Model.sample`: batch, label, steps, sampler, guidance_scale, …. Beside the metrics the figures hold the sampling
    settings, evaluations a sample, seconds, date, versions and hardware; `data_matches` says whether the dataset is the
    one the model was trained on.
    Raises InputError for what cannot be measured, before anything is sampled; NonFinite when samples are.
    """
    chosen = applicable(model, dataset, metrics, n)
    network = load_features(features) if isinstance(features, str) and "frechet" in chosen else features
    sampling, cond = model.plan(n, {name: wish for name, wish in wishes.items() if name != "batch"})
    start = time.perf_counter()
    drawn = any(name != "nll" for name in chosen)
    samples = model.sample(n, seed=seed, progress=stage(progress, "sampling"), **wishes) if drawn else None
    sampled = time.perf_counter()
    labels = None if cond is None else cond.get("label")
    taken = Taken(model, n, seed, samples, labels, dataset, network, progress)
    measured = {name: _MEASURE[name](taken) for name in chosen}
    return {
        **about.surroundings(),
        **settings(model, dataset, n, seed, sampling, features),
        **({"sampling_s": round(sampled - start, 3)} if drawn else {}),
        "measuring_s": round(time.perf_counter() - sampled, 3),
        **measured,
    }


def applicable(model: Model, dataset: Dataset, metrics: Sequence[str] | None, n: int) -> list[str]:
    """The metrics that are to be measured. Raises InputError for those that cannot be."""
    possible = [name for name in METRICS if name != "classes" or labelled(model, dataset)]
    for name in metrics or ():
        if name not in METRICS:
            raise InputError(f"there is no metric {name!r}: {nearest(name, METRICS)}")
        if name not in possible:
            raise InputError(
                "the metric 'classes' asks whether a sample shows its label; this model has no labels, or not this data's"
            )
    chosen = [name for name in possible if (name in metrics if metrics else name not in ASKED)]
    least = 2 if "frechet" in chosen else 1
    if n < least:
        raise InputError(f"{n} samples were asked for; {chosen[0]} needs {least} or more")
    if "nll" in chosen and model.backend:
        raise InputError(
            f"likelihoods are computed by the network itself, and here {model.backend.name} computes in its place; "
            "leave the backend out, or the metric nll"
        )
    if "nll" in chosen:
        check_nll(model, dataset, n)
    if tuple(model.shape) != tuple(dataset.shape):
        raise InputError(f"the model makes pictures {model.shape}, and {dataset.name} has pictures {dataset.shape}")
    return chosen


def labelled(model: Model, dataset: Dataset) -> bool:
    """Whether the model is asked for the dataset's classes."""
    return "label" in (model.condition.null(1) or {}) and model.classes == dataset.classes


def samples_key(weights: str, seeds: Sequence[int], labels: Sequence[int] | None, sampling: Sampling) -> cache.Key:
    """What decides samples, as the cache takes it: the weights' SHA-256, each sample's seed and class, the settings."""
    asked = {"seeds": list(seeds), "labels": labels, "sampling": plain(dataclasses.asdict(sampling))}
    return {
        "what": "samples",
        "carrara": __version__,
        "weights": weights,
        "asked": json.dumps(asked, sort_keys=True),
    }


def settings(
    model: Model, dataset: Dataset, n: int, seed: int, sampling: Sampling, features: Features | str
) -> dict[str, Any]:
    """All that decides the figures."""
    trained_on = model.facts.get("data_fingerprint")
    return {
        "model": model.recipe.name,
        "weights_sha256": weights_sha256(model),
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "data_matches": trained_on in (None, dataset.fingerprint),
        "n": n,
        "seed": seed,
        "sampling": plain(dataclasses.asdict(sampling)),
        **({"backend": model.backend.name} if model.backend else {}),
        "evaluations_per_sample": sampling.passes(),
        "features": features if isinstance(features, str) else features.name,
    }


def weights_sha256(model: Model) -> str:
    """The SHA-256 (hex) of the network's tensors, names included."""
    return tensors.sha256(model.denoiser.network.state_dict())


def keep(folder: Path, figures: Mapping[str, Any]) -> Path:
    """Puts an evaluation into the folder's figures.json, a list with the newest last, and returns its path.

    One of the same samples and data is joined with it: figures measured again are replaced, others stay. All other
    evaluations stay as they are.
    """
    path = folder / FIGURES
    known: list[dict[str, Any]] = files.read_json(path) if path.is_file() else []
    same = [entry for entry in known if _key(entry) == _key(figures)]
    joined = {name: value for entry in same for name, value in entry.items()} | dict(figures)
    files.write_json(path, [*(entry for entry in known if entry not in same), joined])
    return path


def of_samples(figures: Mapping[str, Any]) -> bool:
    """Whether samples were measured, and not the model alone."""
    return any(name in figures for name in METRICS if name not in ASKED)


def note(model: Model, folder: Path, figures: Mapping[str, Any]) -> None:
    """Writes an evaluation's figures on the card of the model in `folder`, each with what it must be compared with.

    They take the place of those of another evaluation: a card speaks of one way of sampling. A likelihood needs no samples,
    and stays.
    """
    sampling, facts = figures["sampling"], {}
    if of_samples(figures):
        for name in NOTED:
            model.facts.pop(name, None)
        facts["measured_with"] = (
            f"{sampling['sampler']}, {sampling['steps']} steps, guidance {sampling['guidance_scale']:g}"
            + (f", {figures['backend']}" if "backend" in figures else "")
        )
    if found := figures.get("frechet"):
        facts["frechet_distance"] = (
            f"{found['value']:.4g} (floor {found['floor']:.4g}, ceiling {found['ceiling']:.4g}; n = {found['n']}, "
            f"{found['reference']}, {found['features']}, {found['resizer']})"
        )
    if found := figures.get("classes"):
        facts["class_read_rate"] = (
            f"{found['rate']:.3f} (n = {found['n']}; the classifier is right on {found['accuracy']:.3f} of held-out pictures)"
        )
    if found := figures.get("neighbours"):
        facts["copies_of_training_pictures"] = f"{found['copies']} of {found['n']}"
    if found := figures.get("nll"):
        facts["bits_per_dim"] = (
            f"at most {found['bound']['value']:.3f} ± {found['bound']['standard_error']:.3f} by the variational bound "
            f"(n = {found['n']} held-out pictures)"
        )
    model.facts.update(facts)
    model.save(folder)


def _key(entry: Mapping[str, Any]) -> list[Any]:
    return [plain(entry.get(name)) for name in KEY]


def plain(value: Any) -> Any:
    """The value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def stage(progress: Report | None, name: str) -> Callable[[int, int], None] | None:
    """The callback for one piece of the work."""
    return None if progress is None else lambda done, total: progress(name, done, total)


@dataclass(frozen=True)
class Taken:
    """Samples with the classes they were asked to show (none where only the model is asked), and what they are measured against."""

    model: Model
    n: int
    seed: int
    samples: Tensor | None
    labels: Tensor | None
    dataset: Dataset
    features: Features | str
    progress: Report | None


def _frechet(taken: Taken) -> dict[str, Any]:
    progress = stage(taken.progress, "Fréchet distance")
    assert taken.samples is not None
    return frechet(taken.samples, taken.dataset, taken.features, progress=progress).as_dict()


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
    "classes": _classes,
    "neighbours": _neighbours,
    "nll": _nll,
}
