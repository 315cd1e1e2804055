"""Where the parts of a recipe have to agree: network and condition, codec and process, codec and sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from carrara.codecs.base import Codec, learnt_of
from carrara.errors import InputError, RecipeError
from carrara.recipe import Recipe
from carrara.sampling import Sampling
from carrara.variances import Variance


def network_of(
    recipe: Recipe, told: dict[str, Any], variance: Variance | None = None, **others: Any
) -> torch.nn.Module:
    """The network of a recipe, told what the data and the codec decide. Raises RecipeError where it needs to know other things."""
    if variance is not None and "channels" in told:
        told = told | {"outputs": told["channels"] * variance.outputs}
    check_heard(recipe, told)
    made: torch.nn.Module = recipe.build("network", **told)
    return made


def learnt_with(recipe: Recipe, codec: Codec) -> dict[str, torch.nn.Module]:
    """What of the codec is trained with the denoiser. Raises RecipeError where the recipe's process would not train it."""
    learnt = learnt_of(codec)
    if unused := [name for name in learnt if not recipe.takes("process", name)]:
        codec_kind, process = (recipe.sections[section]["kind"] for section in ("codec", "process"))
        raise RecipeError(
            f"the codec {codec_kind!r} has a {unused[0]} that is trained with the denoiser, and the process {process!r} trains "
            "none; choose process embedded"
        )
    return learnt


def check_bounded(sampling: Sampling, codec: Codec) -> None:
    """Raises InputError where x0 would be kept within the bounds of colours, and the codec's has none."""
    threshold = sampling.threshold
    if getattr(codec, "unbounded", False) and threshold["kind"] != "none" and threshold.get("bound", 1.0) <= 1:
        raise InputError(
            f"the threshold {threshold['kind']!r} keeps x0 from −1 to 1, as colours are, and this model's x0 are latents of "
            "variance 1; leave it out (sampling.threshold.kind=none), or give it a larger bound, such as 4"
        )


def check_heard(recipe: Recipe, told: Mapping[str, Any]) -> None:
    """Raises RecipeError where a condition tells of text, and the network would not hear it."""
    if unheard := [name for name in told if name.startswith("text_") and not recipe.takes("network", name)]:
        kind = recipe.sections["network"]["kind"]
        raise RecipeError(
            f"network.kind {kind!r} cannot be told of text: it takes no {unheard[0]}; choose unet or dit, or another condition"
        )
