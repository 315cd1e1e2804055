"""A codec of texts that is an option of something else: of a condition, of another codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrara.codecs.texts import TextCodec
from carrara.errors import RecipeError
from carrara.recipe import checked, target_of, validated


def text_codec(options: Mapping[str, Any], owner: str, words: str, **usual: Any) -> TextCodec:
    """The codec of these options, as a recipe's section codec has them; `usual`: those that it is given where they are left out.

    `owner`: the section whose option codec this is; `words`: what it must be, for people. Raises RecipeError for options that make
    no codec, and for one that is none of texts.
    """
    try:
        target = target_of("codec", options)
        whole = checked("codec", options)
        whole |= {name: value for name, value in usual.items() if name in whole and name not in options}
        made = target(**validated("codec", target, {key: value for key, value in whole.items() if key != "kind"}))
    except RecipeError as error:
        raise RecipeError(f"{owner}.{error}") from error
    if not isinstance(made, TextCodec) or any(getattr(made, name) != value for name, value in usual.items()):
        raise RecipeError(f"{owner}.codec is {dict(options)}; {words}")
    return made
