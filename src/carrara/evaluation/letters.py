"""Texts as a picture: what a preview of a model of texts is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 88
"""Characters a line."""
LINES = 4
"""Lines of a text that are shown at most."""
_SIZE, _LINE, _PAD, _GAP = 13, 17, 12, 8


def written(texts: Sequence[str], columns: int = COLUMNS, lines: int = LINES) -> Image.Image:
    """The texts below one another, RGB, each cut after so many lines of so many characters.

    Characters that Pillow's own letters do not have are shown as boxes; the texts themselves are in the run's report.
    """
    blocks = [shown(text, columns, lines) for text in texts]
    height = 2 * _PAD + sum(_LINE * len(block) + _GAP for block in blocks)
    sheet = Image.new("RGB", (2 * _PAD + columns * _SIZE * 6 // 10, height), "white")
    draw, letters, top = ImageDraw.Draw(sheet), ImageFont.load_default(_SIZE), _PAD
    for block in blocks:
        for line in block:
            draw.text((_PAD, top), line, fill="black", font=letters)
            top += _LINE
        top += _GAP
    return sheet


def shown(text: str, columns: int, lines: int) -> list[str]:
    """The first lines of a text, at least one; what cannot be seen as such is a space."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text.replace("\n", " / "))
    return (textwrap.wrap(plain, columns) or [""])[:lines]
