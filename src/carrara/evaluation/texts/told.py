"""How figures of texts are told: on the model's card, as the report's tiles, in the terminal's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from carrara.evaluation.report import Figure, number
from carrara.evaluation.texts.figures import MEASURES

Figures = Mapping[str, Any]

NOTED = ("perplexity", "word_entropy", "distinct_n_grams", "repetition")
"""The facts of a model's card that speak of samples."""
_FACTS = {
    "judge": "perplexity",
    "entropy": "word_entropy",
    "distinct": "distinct_n_grams",
    "repetition": "repetition",
}
COLUMNS = ("figure", "samples", "held out", "shuffled", "n", "of")


def card(figures: Figures) -> dict[str, str]:
    """What the model's card tells of an evaluation, each figure with what it must be compared with."""
    facts = {fact: _fact(figures[name]) for name, fact in _FACTS.items() if figures.get(name)}
    if found := figures.get("bits"):
        value = f"{found['per_character']:.3f} ± {found['standard_error']:.3f} ({_windows(found)})"
        facts["bits_per_character"] = value if found["exact"] else f"at most {value}"
    return facts


def _fact(found: Figures) -> str:
    each = [
        f"{MEASURES[name].short} {number(value, 3)} ({number(found['heldout'][name], 3)})"
        for name, value in found["samples"].items()
    ]
    by = f", {found['judge']}" if "judge" in found else ""
    return f"{', '.join(each)}; in brackets that of held-out text; {found['characters']:,} characters{by}"


def tiles(figures: Figures) -> list[Figure]:
    """The report's tiles of the metrics of samples that were measured."""
    return [
        Figure(
            MEASURES[name].title,
            found["samples"][name],
            f"held-out text {number(found['heldout'][name], 3)}, with its words shuffled {number(found['shuffled'][name], 3)}; "
            f"{found['characters']:,} characters of each",
            _of(name, found),
            n=found["n"],
        )
        for name, found in _measured(figures)
    ]


def bits_tile(found: Figures) -> Figure:
    """The report's tile of the bits of held-out text."""
    kind = "exact" if found["exact"] else "the variational bound"
    detail = (
        f"{kind}, ± {found['standard_error']:.3f}; {found['per_byte']:.3f} a byte, {found['per_token']:.3f} a token; every token "
        f"alone {found['unigram']:.3f}"
    )
    return Figure("Held-out text", found["per_character"], detail, "bits/character", n=found["n"])


COMPARED = ("perplexity", "held out", "entropy", "held out", "repeated", "held out")
"""The columns of the report's table of evaluations."""


def compared(figures: Figures) -> list[float | None]:
    """The cells of those columns."""
    metrics = {"perplexity": "judge", "entropy": "entropy", "repeated": "repetition"}
    found = [(name, figures.get(metric) or {}) for name, metric in metrics.items()]
    return [entry.get(side, {}).get(name) for name, entry in found for side in ("samples", "heldout")]


def rows(figures: Figures) -> list[list[str]]:
    """The terminal's rows of the metrics of samples: COLUMNS."""
    return [
        [
            MEASURES[name].title.lower(),
            *(number(found[side][name], 3) for side in ("samples", "heldout", "shuffled")),
            str(found["n"]),
            _of(name, found),
        ]
        for name, found in _measured(figures)
    ]


def bits_rows(found: Figures) -> list[list[str]]:
    """The terminal's rows of the bits: model, bits a character, its error, a byte, a token."""
    rest = [found[key] / found["per_character"] for key in ("per_byte", "per_token")]
    mine = [f"{found['per_character']:.3f}", f"{found['standard_error']:.3f}"]
    words = "the model, exactly" if found["exact"] else "the model, at most (bound)"
    table = [[words, *mine, f"{found['per_byte']:.3f}", f"{found['per_token']:.3f}"]]
    for key, words in (("unigram", "each token alone"), ("uniform", "nothing known")):
        table.append([words, f"{found[key]:.3f}", "0", *(f"{found[key] * share:.3f}" for share in rest)])
    return table


def bits_meanings(found: Figures) -> list[str]:
    """What must be known beside the bits."""
    lines = [f"Of {_windows(found)}, {found['characters']:,} characters; lower is better."]
    if not found["exact"]:
        lines.append(
            f"The bound is estimated from {found['draws']} draws of noise a window, which alone leave "
            f"± {found['estimate_error']:.3f}."
        )
    return lines


def meanings(figures: Figures) -> list[str]:
    """What must be said beside the rows."""
    any_of = next((found for _, found in _measured(figures)), None)
    if any_of is None:
        return []
    lines = [
        f"Of {any_of['characters']:,} characters of samples, of held-out text, and of that with its words shuffled. The nearest "
        "to held out is best; none is best low or high."
    ]
    if found := figures.get("judge"):
        lines.append(
            "Perplexity falls where text becomes less varied: read it beside the entropy, and beside what is repeated."
        )
        lines += [_caution(found)] if _caution(found) else []
    return lines


def _caution(found: Figures) -> str:
    """What must be said of a judge that does not know the language; empty where it does."""
    share = found["heldout"]["unknown"]
    if share is not None and share <= 0.25:
        return ""
    known = "none" if share is None else f"{100 * (1 - share):.0f} %"
    return f"The judge knows {known} of the {found['unit']}s of held-out text, so its figures say little here."


def _measured(figures: Figures) -> Iterator[tuple[str, Figures]]:
    """(measure, the figures it is in) of all that was measured, each once."""
    seen: set[str] = set()
    for metric in _FACTS:
        for name in (figures.get(metric) or {}).get("samples", ()):
            if name not in seen:
                seen.add(name)
                yield name, figures[metric]


def _of(name: str, found: Figures) -> str:
    if name == "perplexity":
        return f"a {found['unit']}, {found['judge']}"
    return MEASURES[name].unit


def _windows(found: Figures) -> str:
    return f"n = {found['n']:,} of {found['windows']:,} held-out windows"
