"""The results of a comparison in rows and columns, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carrara.evaluation.report import Cell, Table, number

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Column:
    """A figure as a column: its key in the results, the head without the arrow, and which way is better."""

    key: str
    head: str
    better: str
    """"lower" or "higher"; "" where neither is."""
    meaning: str
    scale: float = 1.0
    interval: tuple[str, str] | None = None
    """The keys of its interval's ends, which is a column of its own."""

    @property
    def title(self) -> str:
        """The head of the column, with an arrow that points where it is better."""
        return self.head + {"lower": " ↓", "higher": " ↑"}.get(self.better, "")


DISTANCES = (
    Column("frechet", "Fréchet", "lower", "", interval=("frechet_low", "frechet_high")),
    Column(
        "frechet_infinite", "at infinite n", "lower", "", interval=("frechet_infinite_low", "frechet_infinite_high")
    ),
    Column("kid", "KID × 1000", "lower", "", 1000, ("kid_low", "kid_high")),
)
SHARES = (
    Column("precision", "precision", "higher", "pictures that lie among real ones"),
    Column("recall", "recall", "higher", "real pictures that lie among these"),
    Column("density", "density", "higher", "real pictures' balls that a picture lies in, over k"),
    Column("coverage", "coverage", "higher", "real pictures' balls that hold a picture"),
    Column("read", "read as asked", "higher", "pictures read as the class asked for"),
    Column("copies", "copies", "lower", "pictures that equal a training picture"),
    Column(
        "nearer_share", "nearer (%)", "", "pictures nearer to a training picture than 99 % of held-out ones are", 100
    ),
)
COSTS = (
    Column("parameters", "parameters", "lower", ""),
    Column("evaluations_per_sample", "evaluations a sample", "lower", ""),
    Column("seconds_per_sample", "seconds a sample", "lower", ""),
    Column("training_seconds", "training, s", "lower", ""),
    Column("training_images_seen", "images seen", "", ""),
)


def distances(result: Mapping[str, Any]) -> Table:
    """The distances with their intervals: a row a thing, then held-out pictures and noise."""
    warned = f"; {result['caution']}" if result["caution"] else ""
    caption = f"Lower is better, the best in bold; {result['level']:.0%} intervals. {protocol(result)}{warned}"
    return _table(DISTANCES, result, caption)


def shares(result: Mapping[str, Any]) -> Table:
    """All other figures of pictures."""
    meanings = "; ".join(f"{column.head}: {column.meaning}" for column in SHARES)
    caption = f"↑ higher is better, ↓ lower; the best in bold. Balls reach to the k-th neighbour, k = {result['k']}. {meanings}."
    return _table(SHARES, result, caption)


def comparable(result: Mapping[str, Any]) -> Rows:
    """The things whose figures may be put in order: of n pictures, which statistics files need not be."""
    return [row for row in result["things"] if row["n"] == result["n"]]


def protocol(result: Mapping[str, Any]) -> str:
    """What every figure goes by: n, reference, features, resizer."""
    return f"n = {result['n']:,}, against {result['reference']}; {result['features']}, {result['resizer']}"


def costs(result: Mapping[str, Any]) -> Table | None:
    """What the models cost; None where there is none."""
    rows = [row for row in result["things"] if row["cost"] is not None]
    if not rows:
        return None
    # Folders have no cost; their rows would be dashes only.
    cells: list[list[Cell]] = [
        [row["name"], settings(row), *(row["cost"][column.key] for column in COSTS)] for row in rows
    ]
    best = _best(COSTS, [row["cost"] for row in rows], range(2, 2 + len(COSTS)))
    return Table(["model", "sampled", *(column.title for column in COSTS)], cells, _cost_caption(rows, result), best)


def settings(row: Mapping[str, Any]) -> str:
    """How a model was sampled, in short."""
    sampling = row["sampling"]
    guided = "" if sampling["guidance_scale"] == 1 else f", guidance {sampling['guidance_scale']:g}"
    return f"{sampling['sampler']}, {sampling['steps']} steps, {sampling['times']['kind']}{guided}"


def notes(result: Mapping[str, Any]) -> list[str]:
    """What must be known beside the figures, in sentences."""
    found = [] if result["caution"] is None else [f"Of the Fréchet distances: {result['caution']}."]
    if not result["scale"]:
        found.append(
            "There is no row of held-out pictures, the floor, and none of noise, the ceiling: a folder and a statistics file "
            "have no part that was held out of training. With a dataset as the reference both are measured."
        )
    others = [row["name"] for row in result["things"] if row["data_matches"] is False]
    return found + [
        f"{name} was trained on other pictures than those of the reference; copies of its own are not looked for."
        for name in others
    ]


def missing(result: Mapping[str, Any]) -> Table | None:
    """What could not be had, and why; None where there is nothing to say."""
    heads = {column.key: column.head for column in (*DISTANCES, *SHARES)}
    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in result["things"]:
        for key, reason in row["missing"].items():
            if key in heads:
                names, figures = reasons.setdefault(reason, ({}, {}))
                names[row["name"]], figures[heads[key]] = None, None
    rows = [[", ".join(names), ", ".join(figures), reason] for reason, (names, figures) in reasons.items()]
    return (
        Table(["thing", "without", "why"], rows, "A dash in a table is a figure that cannot be had") if rows else None
    )


def _cost_caption(rows: Rows, result: Mapping[str, Any]) -> str:
    batches, threads, backends = (
        sorted({row["cost"][name] for row in rows}) for name in ("batch", "threads", "backend")
    )
    joined = [" or ".join(map(str, values)) for values in (batches, threads, backends)]
    return (
        f"Seconds as measured while the {result['n']:,} samples were drawn, {joined[0]} at a time on {joined[1]} "
        f"thread{'s' * (threads != [1])} of {result['processor']}, computed by {joined[2]}; training as the model's card tells"
    )


def _table(columns: Sequence[Column], result: Mapping[str, Any], caption: str) -> Table:
    things, scale = result["things"], result["scale"]
    heads, places = ["", "n"], []
    for column in columns:
        places.append(len(heads))
        heads += [column.title, *([f"{result['level']:.0%}"] if column.interval else [])]
    rows = [[row["name"], row["n"], *_cells(columns, row["figures"])] for row in (*things, *scale)]
    alike = comparable(result)
    figures = [row["figures"] if row in alike else dict.fromkeys(row["figures"]) for row in things]
    return Table(heads, rows, caption, _best(columns, figures, places))


def _cells(columns: Sequence[Column], figures: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = []
    for column in columns:
        cells.append(_scaled(figures[column.key], column))
        if column.interval:
            low, high = (_scaled(figures[key], column) for key in column.interval)
            cells.append(None if low is None else f"{number(low, 3)} to {number(high, 3)}")
    return cells


def _scaled(value: float | None, column: Column) -> Cell:
    if value is None:
        return None
    return int(value) if column.key == "copies" else value * column.scale


def _best(columns: Sequence[Column], figures: Rows, places: Sequence[int]) -> frozenset[tuple[int, int]]:
    """The cells of the best of each column, where not all are alike."""
    found = set()
    for column, place in zip(columns, places, strict=True):
        values = {row: each[column.key] for row, each in enumerate(figures) if each[column.key] is not None}
        if column.better and len(set(values.values())) > 1:
            best = (min if column.better == "lower" else max)(values.values())
            found |= {(row, place) for row, value in values.items() if value == best}
    return frozenset(found)
