"""The metrics by name: what there is of pictures and of texts, and what is refused where it is asked for the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from carrara.errors import InputError, nearest

if TYPE_CHECKING:
    from carrara.model import Model

METRICS = ("frechet", "kid", "precision", "classes", "neighbours", "inception_score", "clip_score", "nll")
"""Of pictures."""
TEXT_METRICS = ("bits", "judge", "entropy", "distinct", "repetition")
OF = {"picture": METRICS, "text": TEXT_METRICS}
ASKED = ("inception_score", "clip_score", "nll")
"""The metrics that are measured only by name: they take minutes, or what not everybody has."""
LABELLED = ("classes", "clip_score")
"""Those that ask whether a sample shows its label."""
UNDRAWN = ("nll", "bits")
"""Those that need no samples."""
FOR_PICTURES = ("features", "reference", "statistics", "clip")
"""Options that only measures of pictures have a use for."""
FOR_TEXTS = ("judge",)


def check_names(metrics: Iterable[str], noun: str) -> None:
    """Raises InputError for a metric that there is not, and for one that is not of these media, "picture" or "text"."""
    for name in metrics:
        for other, names in OF.items():
            if other != noun and name in names:
                raise InputError(
                    f"the metric {name!r} is of {other}s, and this model makes {noun}s; of {noun}s there are {', '.join(OF[noun])}"
                )
        if name not in OF[noun]:
            raise InputError(f"there is no metric {name!r}: {nearest(name, OF[noun])}")


def check_options(given: Mapping[str, Any], noun: str) -> None:
    """Raises InputError for an option that is given and says nothing of these media, "picture" or "text"."""
    for name in FOR_PICTURES if noun == "text" else FOR_TEXTS:
        if given.get(name) is not None:
            other = "picture" if noun == "text" else "text"
            raise InputError(f"{name} says how {other}s are measured, and this model makes {noun}s; leave {name} out")


def check_backend(model: Model, name: str) -> None:
    """Raises InputError where something else computes in the network's place, for a metric that is of the network itself."""
    if model.backend:
        raise InputError(
            f"likelihoods are computed by the network itself, and here {model.backend.name} computes in its place; "
            f"leave the backend out, or the metric {name}"
        )


def of_samples(figures: Mapping[str, Any]) -> bool:
    """Whether samples were measured, and not the model alone."""
    return any(name in figures for names in OF.values() for name in names if name not in UNDRAWN)
