"""Texts as their bytes in UTF-8: 256 tokens and the end, nothing unknown in any language."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from carrara.codecs.layouts import Layout
from carrara.codecs.texts import TextCodec, utf8


class Bytes(TextCodec):
    """A token for each byte of a text's UTF-8; token 256 ends it. Options as for `TextCodec`."""

    kind = "bytes"

    def __init__(self, length: int = 256, layout: Layout = "packed") -> None:
        super().__init__(length, layout)
        self._pieces = tuple(bytes([value]) for value in range(256))

    def tokens(self, text: str) -> npt.NDArray[Any]:
        """uint8 (n,), the text's bytes. Raises InputError for half a surrogate pair."""
        return np.frombuffer(utf8(text), np.uint8)
