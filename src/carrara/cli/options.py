"""Options that several commands share, and the wishes that they come to."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import BACKENDS, SAMPLERS, TIMES, complete_backend, complete_sampler, complete_times
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.model import Model

THRESHOLDS = ("dynamic", "none", "static")


def complete_threshold(incomplete: str) -> list[str]:
    """Thresholds that begin so."""
    return [name for name in THRESHOLDS if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; may be given again."),
]
ModelPath = Annotated[Path, typer.Argument(metavar="PATH", help="A run folder or a model folder.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**62, help="The first sample's seed; the next has the next.")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds", metavar="A,B,…", help="The seed of each sample: pictures that were made, again, alone or together."
    ),
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
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", help="Of each token's draw: 0 always the likeliest, 1 as believed.  [default: 1]"),
]
TopK = Annotated[int | None, typer.Option("--top-k", help="Draw from the k likeliest tokens only.  [default: all]")]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", help="Draw from the fewest tokens that have this share together.  [default: 1, all]"),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval", metavar="FROM,TO", help="The times at which guidance acts.  [default: the recipe's]"
    ),
]
GuidanceRescale = Annotated[
    float | None,
    typer.Option(
        "--guidance-rescale", help="How far guidance's contrast is taken back, 0 to 1.  [default: the recipe's]"
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="KIND",
        help=f"How the believed x0 is kept in bounds: {', '.join(THRESHOLDS)}; with its options as static:bound=1.  "
        "[default: the recipe's]",
        autocompletion=complete_threshold,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help=f"What computes the network: {', '.join(BACKENDS)}, or your own, module:name.",
        autocompletion=complete_backend,
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Samples made at a time.")]


def wishes(
    model: Model,
    steps: int | None,
    sampler: str | None,
    times: str | None,
    guidance_scale: float | None,
    eta: float | None,
    threshold: str | None = None,
    guidance_interval: str | None = None,
    guidance_rescale: float | None = None,
    draw: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """What `Model.sample` is to be asked for: the options that were given.

    `draw`: how tokens are drawn, temperature, top_k and top_p. Raises InputError for what its sampler does not take.
    """
    scale = model.sampling.guidance_scale if guidance_scale is None else guidance_scale
    for option, value in (("--guidance-interval", guidance_interval), ("--guidance-rescale", guidance_rescale)):
        if value is not None and scale == 1:
            raise InputError(f"{option} {value} does nothing without guidance; give --guidance-scale too, 2 for one")
    recipes = model.sampling.changed(sampler=sampler).options
    given = {
        "steps": steps,
        "sampler": sampler,
        "times": None if times is None else _kind(times, "--times"),
        "guidance_scale": guidance_scale,
        "guidance_interval": None if guidance_interval is None else _interval(guidance_interval),
        "guidance_rescale": guidance_rescale,
        "threshold": None if threshold is None else _kind(threshold, "--threshold"),
        "options": {**recipes, **_own_options(model, sampler, {"eta": eta, **(draw or {})})},
    }
    return {name: value for name, value in given.items() if value is not None}


def _own_options(model: Model, sampler: str | None, given: dict[str, float | None]) -> dict[str, Any]:
    """Those of the sampler that were given. Raises InputError for one that it does not take, with the samplers that do."""
    from carrara.beliefs import check_draw
    from carrara.samplers import SAMPLERS, over

    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    check_draw(options.get("temperature", 1.0), options.get("top_k"), options.get("top_p"))
    name = sampler or model.sampling.sampler
    for option, value in options.items():
        if name in SAMPLERS and option not in signature(SAMPLERS[name].walk).parameters:
            made_of = model.denoiser.process.made_of
            able = [key for key, entry in over(made_of).items() if option in signature(entry.walk).parameters]
            do = f"choose one that does: {', '.join(able)}" if able else f"no sampler of {made_of} does: leave it out"
            raise InputError(
                f"--{option.replace('_', '-')} {value:g}: the sampler {name!r} has no option {option!r}; {do}"
            )
    return options


def _interval(text: str) -> tuple[float, float]:
    """(0.2, 0.8) of "0.2,0.8"."""
    try:
        first, last = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--guidance-interval {text!r} is not two times such as 0.2,0.8") from None
    return first, last


def _kind(text: str, option: str) -> dict[str, Any]:
    """{"kind": …, option: number, …} of "kind:option=number,…"."""
    kind, _, rest = text.partition(":")
    words = [word.partition("=") for word in rest.split(",") if word]
    return {"kind": kind, **{name: _number(option, name, value) for name, _, value in words}}


def _number(option: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{option}: {name}={value!r} is not a number") from None
