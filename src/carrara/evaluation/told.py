"""How figures of samples are told: on the model's card, as the report's tiles, in the terminal's table.

An evaluation of an earlier version lacks what was not measured then; what is lacking is not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.evaluation.report import Figure, number

Figures = Mapping[str, Any]

NOTED = (
    "measured_with",
    "frechet_distance",
    "kernel_distance",
    "precision_and_recall",
    "inception_score",
    "clip_score",
    "class_read_rate",
    "copies_of_training_pictures",
)
"""The facts of a model's card that speak of samples."""
SHARES = ("precision", "recall", "density", "coverage")


def card(figures: Figures) -> dict[str, str]:
    """What the model's card tells of an evaluation, each figure with what it must be compared with."""
    told = {
        "frechet": ("frechet_distance", _frechet_fact),
        "kid": ("kernel_distance", _kid_fact),
        "precision": ("precision_and_recall", _precision_fact),
        "inception_score": ("inception_score", _inception_fact),
        "clip_score": ("clip_score", _clip_fact),
        "classes": ("class_read_rate", _classes_fact),
        "neighbours": ("copies_of_training_pictures", lambda found: f"{found['copies']} of {found['n']}"),
        "nll": ("bits_per_dim", _nll_fact),
    }
    return {fact: words(figures[name]) for name, (fact, words) in told.items() if figures.get(name)}


def _frechet_fact(found: Figures) -> str:
    beside = f"floor {found['floor']:.4g}, ceiling {found['ceiling']:.4g}; n = {found['n']}, {_by(found)}"
    return f"{found['value']:.4g} ({f'{chance(found)}; ' if chance(found) else ''}{beside})"


def _kid_fact(found: Figures) -> str:
    beside = f"floor {found['floor']:.3g}, ceiling {found['ceiling']:.3g}; n = {found['n']}, {_by(found)}"
    return f"KID {found['value']:.4g} ({f'{chance(found)}; ' if chance(found) else ''}{beside})"


def _precision_fact(found: Figures) -> str:
    figures = ", ".join(f"{name} {found[name]:.3f} ({found['heldout'][name]:.3f})" for name in SHARES)
    return f"{figures}; in brackets those of held-out pictures; k = {found['k']}, n = {found['n']}, {_by(found)}"


def _inception_fact(found: Figures) -> str:
    return (
        f"{found['value']:.3f} ± {found['deviation']:.2g} (held-out pictures {found['heldout']:.3f}; n = {found['n']}, "
        f"{found['splits']} splits, {found['features']}, {found['resizer']})"
    )


def _clip_fact(found: Figures) -> str:
    return (
        f"{found['value']:.3f} ± {found['error']:.2g} (floor {number(found['floor'])}, ceiling {number(found['ceiling'])}; "
        f"n = {found['n']}, {_beside(found)}, {found['clip']})"
    )


def _beside(found: Figures) -> str:
    """The texts that pictures were compared with."""
    captions = found.get("of") == "captions"
    return f"{found['texts']} captions" if captions else f"the names of {found['texts']} classes"


def _classes_fact(found: Figures) -> str:
    return f"{found['rate']:.3f} (n = {found['n']}; the classifier is right on {found['accuracy']:.3f} of held-out pictures)"


def _nll_fact(found: Figures) -> str:
    bound = found["bound"]
    return (
        f"at most {bound['value']:.3f} ± {bound['standard_error']:.3f} by the variational bound "
        f"(n = {found['n']} held-out pictures)"
    )


def _by(found: Figures) -> str:
    return f"{found['reference']}, {found['features']}, {found['resizer']}"


def chance(found: Figures) -> str:
    """The 95 % interval, and the value at infinite n where there is one; empty where nobody measured it."""
    if found.get("low") is None:
        return ""
    words = f"95 % interval {found['low']:.3g} to {found['high']:.3g}"
    return words if found.get("infinite") is None else f"{words}, {found['infinite']:.3g} at infinite n"


# --- the report ------------------------------------------------------------------------------------------------------


def tiles(figures: Figures) -> list[Figure]:
    """The report's tiles of KID, precision and recall, and the Inception Score, of those that were measured."""
    made = {
        "kid": _kid_tiles,
        "precision": _precision_tiles,
        "inception_score": _inception_tiles,
        "clip_score": _clip_tiles,
    }
    return [tile for name, make in made.items() if figures.get(name) for tile in make(figures[name])]


def _kid_tiles(found: Figures) -> list[Figure]:
    detail = f"{chance(found)}, {found['features']}, {found['reference']}".removeprefix(", ")
    scale = {"floor": found["floor"], "ceiling": found["ceiling"]}
    return [Figure("Kernel distance (KID)", found["value"], detail, n=found["n"], **scale)]


def _precision_tiles(found: Figures) -> list[Figure]:
    words = {"precision": "Precision: samples among real pictures", "recall": "Recall: real pictures among samples"}
    others = {"precision": "density", "recall": "coverage"}
    return [
        Figure(
            words[name],
            100 * found[name],
            f"held-out pictures {100 * found['heldout'][name]:.1f} %; {other} {found[other]:.3g} ({found['heldout'][other]:.3g}); "
            f"{found['features']}, {found['reference']}, k = {found['k']}",
            "%",
            n=found["n"],
        )
        for name, other in others.items()
    ]


def _inception_tiles(found: Figures) -> list[Figure]:
    detail = f"± {found['deviation']:.2g} between {found['splits']} splits; held-out pictures {found['heldout']:.3g}"
    return [Figure("Inception Score", found["value"], f"{detail}; {found['features']}", n=found["n"])]


def _clip_tiles(found: Figures) -> list[Figure]:
    detail = f"± {found['error']:.2g}, beside {_beside(found)}; {found['clip']}"
    return [
        Figure("CLIP score", found["value"], detail, n=found["n"], floor=found["floor"], ceiling=found["ceiling"])
    ]


# --- the terminal ----------------------------------------------------------------------------------------------------


def rows(figures: Figures) -> list[list[str]]:
    """The table's rows of the same: figure, value, floor, ceiling, n, measured against."""
    made = {
        "kid": _kid_rows,
        "precision": _precision_rows,
        "inception_score": _inception_rows,
        "clip_score": _clip_rows,
    }
    return [row for name, make in made.items() if figures.get(name) for row in make(figures[name])]


def chance_rows(found: Figures) -> list[list[str]]:
    """Below a distance, what chance does to it and what it would be at infinite n; none where nobody measured that."""
    if found.get("low") is None:
        return []
    lines = [["  95 % interval", f"{found['low']:.3g} to {found['high']:.3g}", "", "", str(found["n"]), ""]]
    if found.get("infinite") is not None:
        lines.append(["  at infinite n", f"{found['infinite']:.3g}", "", "", "∞", "the same"])
    return lines


def _kid_rows(found: Figures) -> list[list[str]]:
    scale = [f"{found[key]:.3g}" for key in ("value", "floor", "ceiling")]
    first = ["kernel distance (KID)", *scale, str(found["n"]), f"{found['reference']}, {found['features']}"]
    return [first, *chance_rows(found)]


def _precision_rows(found: Figures) -> list[list[str]]:
    against = f"{found['reference']}, {found['features']}"
    return [
        [
            name,
            *(f"{figures[name]:.3f}" for figures in (found, found["noise"], found["heldout"])),
            str(found["n"]),
            against,
        ]
        for name in SHARES
    ]


def _inception_rows(found: Figures) -> list[list[str]]:
    scale = [f"{found[key]:.3g}" for key in ("value", "floor", "heldout")]
    against = f"{found['splits']} splits ± {found['deviation']:.2g}, {found['features']}"
    return [["Inception Score", *scale, str(found["n"]), against]]


def _clip_rows(found: Figures) -> list[list[str]]:
    scale = [number(found[key], 3) for key in ("value", "floor", "ceiling")]
    return [["CLIP score", *scale, str(found["n"]), f"{_beside(found)}, {found['clip']}"]]


def meanings(figures: Figures) -> list[str]:
    """What floor and ceiling of these rows are, and what must be said beside them."""
    lines = []
    if (found := figures.get("frechet")) and found.get("low") is not None:
        said = ", with some bias left: n is small beside the features" if found.get("infinite_caution") else ""
        lines.append(f"Interval: were the samples drawn again; at infinite n: against the same reference{said}.")
    if figures.get("kid"):
        lines.append("KID: unbiased, may fall below 0; lower is better; floor: held-out pictures, ceiling: noise.")
    if found := figures.get("precision"):
        lines.append(
            "Precision, density: are samples real; recall, coverage: is nothing left out; higher is better; floor: noise, "
            f"ceiling: held-out pictures; a ball reaches to the neighbour number {found['k']}."
        )
    if figures.get("inception_score"):
        lines.append("Inception Score: higher is better; floor: one verdict for all, ceiling: held-out pictures.")
    if found := figures.get("clip_score"):
        lines.append(
            f"CLIP score: 2.5 · max(cos, 0), ± {found['error']:.2g}; higher is better; floor: another's words, "
            "ceiling: held-out pictures."
        )
    return lines
