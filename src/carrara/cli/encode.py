"""`carrara encode`: a dataset as its codec makes it, kept before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.cli.names import complete_recipe
from carrara.cli.options import Changes, Json
from carrara.cli.voice import State, Voice
from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.codecs.base import Codec
    from carrara.data import Dataset
    from carrara.recipe import Recipe

What = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|RUN",
        help="A recipe's name or a YAML file, whose codec keeps what it makes (kl, vq, or one of texts), or a run of one.",
        autocompletion=complete_recipe,
    ),
]


def encode(ctx: typer.Context, what: What, changes: Changes = None, as_json: Json = False) -> None:
    """Encode a recipe's data before it is trained on: pictures as latents or words, by the autoencoder that its codec names.

    The same command goes on where it was stopped. Training does the same by itself where it has not been done.
    """
    from carrara.cli.threads import in_words, use_cores
    from carrara.codecs.encoded import encoded, mirrored, place_of
    from carrara.training.run import dataset_of

    threads, voice = use_cores(), Voice(as_json)
    recipe, codec = meant(what, changes or [])
    with voice.busy("reading the data"):
        dataset = dataset_of(recipe)
        codec = checked(codec, dataset)
        place = place_of(dataset, codec)
    there = place.is_dir()
    voice.say(f"computing   {in_words(threads)}")
    state: State = ctx.obj
    state.goes_on = True
    with voice.counting() as report:
        train, heldout = encoded(dataset, codec, progress=lambda done, total: report("encoding", done, total))
        if dataset.flip:
            mirrored(dataset, codec, progress=lambda done, total: report("encoding mirrored", done, total))
    size = "×".join(map(str, train.shape[1:]))
    voice.say(f"data        {dataset.name}: {len(train):,} to train on, {len(heldout):,} held out")
    voice.say(f"codec       {recipe.sections['codec']['kind']}: {size} numbers each, {train.dtype}")
    voice.say(f"{'kept' if there else 'written':<12}{place}, {(train.nbytes + heldout.nbytes) / 1e6:,.1f} MB")
    voice.tell(
        data=dataset.name,
        codec=codec.identity(),
        shape=train.shape[1:],
        train=len(train),
        heldout=len(heldout),
        folder=place,
        found=there,
        threads=threads,
    )


def meant(what: str, changes: Sequence[str]) -> tuple[Recipe, Codec]:
    """The Recipe that is meant, and its codec: of a finished run the one in its model. Raises InputError for no recipe."""
    from carrara.model import load
    from carrara.recipe import read
    from carrara.training.run import MODEL, RECIPE

    folder = Path(what)
    if not folder.is_dir():
        recipe = read(what, changes)
        return recipe, _codec(recipe)
    if not (folder / RECIPE).is_file():
        raise InputError(f"{what} is a folder and holds no run (no {RECIPE}); give a recipe, or the folder of a run")
    recipe = read(folder / RECIPE, changes)
    if changes or not (folder / MODEL).is_dir():
        return recipe, _codec(recipe)
    _codec(recipe)
    return recipe, load(folder).codec


def _codec(recipe: Recipe) -> Codec:
    """The codec of a recipe. Raises InputError for one that keeps nothing, or none."""
    if "codec" not in recipe.sections:
        raise InputError(
            f"the recipe {recipe.name} has no codec, so there is nothing to encode; give one that is trained on what a codec "
            "makes, such as fashion-latent"
        )
    codec: Codec = recipe.build("codec")
    if not codec.once:
        raise InputError(
            f"the recipe {recipe.name} has the codec {recipe.sections['codec']['kind']!r}, which encodes as training goes and "
            "keeps nothing; give a recipe with the codec kl or vq, such as fashion-latent"
        )
    return codec


def checked(codec: Any, dataset: Dataset) -> Codec:
    """The codec, made from the dataset where it is made from data. Raises InputError for media that it does not encode."""
    from carrara.codecs.encoded import fitted

    made: Codec = fitted(codec, dataset)
    made.shape(dataset.shape)
    return made
