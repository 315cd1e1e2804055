"""`carrara average`: a finished run's model with an average of the weights of another length."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carrara.cli.options import Json
from carrara.cli.outputs import fresh_folder
from carrara.cli.sample import Overwrite
from carrara.cli.voice import Voice

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run with training.averages.")]
Length = Annotated[
    float, typer.Option("--length", help="The average's length, a share of the run: above 0, at most 0.25.")
]
Images = Annotated[
    int | None, typer.Option("--images", help="Where the average ends, in images seen.  [default: the run's end]")
]
Out = Annotated[Path | None, typer.Option("--out", help="The model folder.  [default: RUN-LENGTH]")]


def average(
    run: RunPath,
    length: Length,
    images: Images = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Choose the length of the weights' moving average after training.

    Made of the averages that the run kept on its way, as in EDM2; carrara compare shows which length is best.
    """
    from carrara.training.averages import Mixture

    voice = Voice(as_json)
    mixture = Mixture.of(run, length, images)
    folder = fresh_folder(out or run.with_name(f"{run.name}-{length:g}"), "--out", overwrite, ())
    with voice.counting() as report:
        model = mixture.model(lambda done, total: report("averages", done, total))
    model.save(folder)
    voice.say(f"average     length {length:g} at {mixture.images:,} images, of {len(mixture.files)} kept ones")
    voice.say(f"model       {folder}")
    voice.tell(length=length, images=mixture.images, of=len(mixture.files), model=folder)
