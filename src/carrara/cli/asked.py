"""What samples are asked to be made from or to show, in words: sources, prompts, and what guidance goes away from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrara.errors import InputError

if TYPE_CHECKING:
    from carrara.model import Model

WORDS = ("source", "prompt", "negative_prompt")
"""The wishes that are a text for each sample."""

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="TEXT",
        help="A text that the sample is made from, such as a spelling; may be given often, taken in turn.  [default: examples]",
    ),
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="TEXT",
        help="What a picture is to show; may be given often, taken in turn.  [default: held-out captions]",
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="A file of prompts, one a line; empty lines are left out."),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(
        "--negative-prompt", metavar="TEXT", help="What guidance goes away from, in the place of no prompt."
    ),
]


def texts_of(
    source: Sequence[str] | None, prompt: Sequence[str] | None, prompts: Path | None, negative: str | None
) -> dict[str, list[str]]:
    """The texts that were given for each of WORDS, of those that were. Raises InputError for a file that holds no prompts."""
    asked = [*(prompt or ()), *(() if prompts is None else read_prompts(prompts))]
    given = {"source": [*(source or ())], "prompt": asked, "negative_prompt": [] if negative is None else [negative]}
    return {name: texts for name, texts in given.items() if texts}


def read_prompts(path: Path) -> list[str]:
    """The lines of a file that are not empty. Raises InputError where there are none, or it is no text in UTF-8."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"--prompts {path} cannot be read: {why}; give a file of prompts, one a line") from error
    if not found:
        raise InputError(f"--prompts {path} is empty; write prompts into it, one a line")
    return found


def several(given: dict[str, list[str]]) -> tuple[int, str]:
    """(how many texts there are that samples are made from, what they are)."""
    name = "prompt" if "prompt" in given else "source"
    return len(given.get(name, ())), f"{name}s"


def words_of(model: Model, n: int, given: dict[str, list[str]]) -> dict[str, Any]:
    """The wishes for each of n samples: the texts in turn, and where nobody gave what they are made from, the model's examples."""
    from carrara.conditions.base import examples

    turns = {name: [texts[index % len(texts)] for index in range(n)] for name, texts in given.items()}
    return turns if turns.keys() & {"source", "prompt"} else {**examples(model.condition, n), **turns}


def first(wishes: dict[str, Any], count: int) -> dict[str, Any]:
    """Those of these wishes that are texts, of the first samples."""
    return {name: wishes[name][:count] for name in WORDS if name in wishes}
