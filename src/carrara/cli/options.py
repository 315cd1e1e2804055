"""Options that several commands share, and the wishes that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import SAMPLERS, TIMES, complete_sampler, complete_times
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.model import Model

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; may be given again."),
]
ModelPath = Annotated[Path, typer.Argument(metavar="PATH", help="A run folder or a model folder.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**62, help="The first sample's seed; the next has the next.")
]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of the sampler.  [default: the recipe's]")]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help=f"{', '.join(SAMPLERS)}, or your own, module:name.  [default: the recipe's]",
        autocompletion=complete_sampler,
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        "--times",
        metavar="KIND",
        help=f"The grid of times: {', '.join(TIMES)}; with its options as shifted:shift=5.  [default: the recipe's]",
        autocompletion=complete_times,
    ),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option("--guidance-scale", help="1: none; above 1: beyond the label.  [default: the recipe's]"),
]
Eta = Annotated[
    float | None, typer.Option("--eta", help="How much noise the ancestral sampler adds, from 0 to 1.  [default: 1]")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Samples made at a time.")]


def wishes(
    model: Model,
    steps: int | None,
    sampler: str | None,
    times: str | None,
    guidance_scale: float | None,
    eta: float | None,
) -> dict[str, Any]:
    """What `Model.sample` is to be asked for: the options that were given."""
    given = {
        "steps": steps,
        "sampler": sampler,
        "times": None if times is None else _grid(times),
        "guidance_scale": guidance_scale,
        "options": _sampler_options(model, sampler, eta),
    }
    return {name: value for name, value in given.items() if value is not None}


def _sampler_options(model: Model, sampler: str | None, eta: float | None) -> dict[str, Any] | None:
    """The recipe's own options hold for the recipe's own sampler."""
    kept = dict(model.sampling.options) if sampler in (None, model.sampling.sampler) else {}
    return {**kept, **({} if eta is None else {"eta": eta})}


def _grid(text: str) -> dict[str, Any]:
    """{"kind": …, option: number, …} of "kind:option=number,…"."""
    kind, _, rest = text.partition(":")
    words = [word.partition("=") for word in rest.split(",") if word]
    return {"kind": kind, **{name: _number(name, value) for name, _, value in words}}


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"--times: {name}={value!r} is not a number") from None
