"""A run that begins with the weights of another: to go on with other data, a lower learning rate, or longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara import files, tensors
from carrara.codecs.base import learnt_of
from carrara.errors import InputError
from carrara.kinds import DIFFUSION, check_kind
from carrara.model import DESCRIPTION, WEIGHTS, Model, model_folder
from carrara.training.trainable import Product

MEANING = ("process", "prediction", "codec")
"""The sections that say what a network's numbers are about: with others its weights would be nonsense."""
CLASSES = "label.weight"
"""The one tensor that hangs on how many classes the data has."""


def begin(product: Product, given: Mapping[str, Any], folder: str) -> str:
    """Gives the network of a recipe's sections the averaged weights of the model in `folder`, and returns their SHA-256.

    Where the data has other classes, their vectors begin anew. Raises InputError for a model of something else, naming every
    tensor that does not fit.
    """
    if not isinstance(product, Model) or given["trainable"]["kind"] != "diffusion" or learnt_of(product.codec):
        raise InputError(
            "training.start gives a diffusion model its first weights; this recipe trains something else: leave it out"
        )
    place = model_folder(folder)
    files.check_folder(place)
    about = files.read_json(place / DESCRIPTION)
    check_kind(about, place, DIFFUSION)
    _check_meaning(about["recipe"], given, folder)
    own = product.denoiser.network.state_dict()
    found = tensors.load(place / WEIGHTS)
    sha256 = tensors.sha256(found)
    if list(about["classes"]) != list(product.classes) and CLASSES in found and CLASSES in own:
        found[CLASSES] = own[CLASSES]
    if wrong := tensors.unfitting({name: tensor.shape for name, tensor in found.items()}, own):
        raise InputError(f"the model in {folder} is of another network than this recipe's: {'; '.join(wrong)}")
    product.denoiser.network.load_state_dict(found)
    return sha256


def _check_meaning(theirs: Mapping[str, Any], ours: Mapping[str, Any], folder: str) -> None:
    """Raises InputError where the two recipes' networks speak of different things."""
    for section in MEANING:
        was, now = ({**sections.get(section, {}), "data_std": None} for sections in (theirs, ours))
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                raise InputError(
                    f"the model in {folder} was trained with {section}.{key}={was.get(key)}, and this recipe has {now.get(key)}: "
                    "its weights mean something else here. Give both the same"
                )
