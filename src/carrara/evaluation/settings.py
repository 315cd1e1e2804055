"""What decides samples and their figures, as it is kept beside them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from carrara import __version__, tensors
from carrara.evaluation.cache import Key

if TYPE_CHECKING:
    from carrara.data import Dataset
    from carrara.model import Model
    from carrara.sampling import Sampling

Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


def settings(model: Model, dataset: Dataset, n: int, seed: int, sampling: Sampling) -> dict[str, Any]:
    """All that decides the figures, whatever they are measured by."""
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
    }


def samples_key(weights: str, seeds: Sequence[int], labels: Sequence[int] | None, sampling: Sampling) -> Key:
    """What decides samples, as the cache takes it: the weights' SHA-256, each sample's seed and class, the settings."""
    asked = {"seeds": list(seeds), "labels": labels, "sampling": plain(dataclasses.asdict(sampling))}
    return {
        "what": "samples",
        "carrara": __version__,
        "weights": weights,
        "asked": json.dumps(asked, sort_keys=True),
    }


def told(cond: Any) -> str:
    """The SHA-256 (hex) of what samples are told beside their classes; empty where that is nothing."""
    others = {name: value for name, value in (cond or {}).items() if name != "label"}
    return tensors.sha256(others) if others else ""


def weights_sha256(model: Model) -> str:
    """The SHA-256 (hex) of the tensors that were trained, names included."""
    return tensors.sha256(model.weights())


def plain(value: Any) -> Any:
    """The value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def stage(progress: Report | None, name: str) -> Callable[[int, int], None] | None:
    """The callback for one piece of the work."""
    return None if progress is None else lambda done, total: progress(name, done, total)
