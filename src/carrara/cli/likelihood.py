"""How `carrara evaluate --metrics nll` is shown."""

from __future__ import annotations

from typing import Any

from carrara.cli.voice import Voice

PICTURES = 64
"""How many held-out pictures are measured where nothing else is and nobody said."""

LINES = (
    ("bound", "variational bound", "the sum of the three below"),
    ("prior", "  L_T", "what the prior does not know of x_1"),
    ("diffusion", "  diffusion", "all steps back, in continuous time"),
    ("reconstruction", "  L_0", "from the first noise level to the picture"),
    ("flow", "probability-flow ODE", "the bound's L_0, and the flow's density before it"),
    ("flow_uniform", "the same, even bins", "uniform dequantisation, as most papers have it"),
    ("gaussian", "one Gaussian", "mean and whole covariance of the training pictures"),
    ("pixels", "each pixel alone", "how often each value was seen there in training"),
)


def show(found: dict[str, Any], voice: Voice) -> None:
    """The figures in bits for each number of a picture, with standard errors, beside plain models."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for head in ("likelihood", "bits/dim", "± s.e.", "what it is"):
        table.add_column(head, justify="right" if head in ("bits/dim", "± s.e.") else "left")
    for row in rows(found):
        table.add_row(*row)
    voice.say()
    voice.show(table)
    voice.say()
    for line in meanings(found):
        voice.say(line)


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The table's rows."""
    table = [
        [name, f"{found[key]['value']:.3f}", f"{found[key]['standard_error']:.3f}", what]
        for key, name, what in LINES
        if key in found
    ]
    return [*table, ["nothing known", f"{found['uniform']:.3f}", "0", "256 values, all alike"]]


def meanings(found: dict[str, Any]) -> list[str]:
    """What must be known beside the figures."""
    lines = [
        f"Bits for each of {found['dims']:,} numbers of n = {found['n']} held-out pictures, no guidance; lower is better. Each "
        "is an upper bound.",
        f"The ODE's grid: twice the steps move its mean by {found['flow_grid_error']:.4f}.",
    ]
    if found["weight"] != "vlb":
        lines.append(
            f"This model was trained with the weight {found['weight']!r}, for pictures to look at, and not with the bound's 'vlb'; "
            f"{found['reconstruction']['value']:.3f} of the bound's bits are for detail below sigma/alpha = "
            f"{found['effort']['ratio']:g}."
        )
    return lines
