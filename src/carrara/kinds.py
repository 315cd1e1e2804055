"""The kinds of models whose folders carrara writes: what each is, in words, and what writes a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrara import __version__
from carrara.errors import InputError
from carrara.plugins import check_known

FORMAT = 1
DIFFUSION, CLIP, VQ, KL = "diffusion", "clip", "vq", "kl"
"""A folder whose description says none holds the first."""


@dataclass(frozen=True)
class Kind:
    """What is to be known of a kind of model before one is loaded."""

    holds: str
    """What it is and does, as in "the folder holds …"."""
    give: str
    """What to do where one is needed and another was given."""
    use: str
    """What to do with this one, where another was needed; {folder} stands for its place."""
    report: str
    """The dotted path of a function that writes a finished run's report, given its folder, and returns the report's path."""
    after: tuple[str, ...] = ()
    """The words of the command that one types next, before the folder; none where that depends on what it is for."""


KINDS: dict[str, Kind] = {
    DIFFUSION: Kind(
        "a diffusion model, which makes pictures or texts out of noise",
        "give a diffusion model, such as carrara train fashion makes",
        "sample from it with carrara sample",
        "carrara.evaluation.summary:of_diffusion",
        ("carrara", "sample"),
    ),
    CLIP: Kind(
        "a CLIP, which tells how well pictures and texts fit and makes no pictures",
        "give a CLIP, such as carrara train clip-emoji makes",
        "use it with carrara.clip.model.load",
        "carrara.clip.report:write_report",
    ),
    VQ: Kind(
        "an autoencoder, which turns pictures into ids and back and makes none by itself",
        "give an autoencoder, such as carrara train vq-fashion makes",
        "use it with carrara.vq.model.load, or in a recipe as codec: {{kind: vq, model: {folder}}}",
        "carrara.vq.report:write_report",
    ),
    KL: Kind(
        "an autoencoder of latents, which turns pictures into small grids of numbers and back and makes none by itself",
        "give an autoencoder of latents, such as carrara train kl-fashion makes",
        "use it with carrara.kl.model.load, or in a recipe as codec: {{kind: kl, model: {folder}}}",
        "carrara.kl.report:write_report",
    ),
}


def check_kind(about: Mapping[str, Any], folder: Path, wanted: str) -> None:
    """Raises InputError unless the description of a model folder is in this carrara's format, of the kind that is wanted, and names
    no code but what is known here, see `carrara.plugins`.
    """
    if about.get("format") != FORMAT:
        raise InputError(
            f"{folder} has the format {about.get('format')!r}; this carrara ({__version__}) reads format {FORMAT}"
        )
    found = about.get("kind", DIFFUSION)
    if found == wanted:
        check_known(about.get("recipe"), folder)
        return
    if found in KINDS:
        use = KINDS[found].use.format(folder=folder)
        raise InputError(f"{folder} holds {KINDS[found].holds}; {KINDS[wanted].give}, or {use}")
    raise InputError(f"{folder} holds a model of kind {found!r}, and one of kind {wanted!r} is needed")
