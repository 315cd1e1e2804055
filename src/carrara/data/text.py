"""What the datasets of texts share: reading UTF-8, and which texts are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from carrara.errors import DataError

BLOCK_CHARACTERS = 4096
"""Neighbours that are held out together, where texts follow one another, come to this many characters."""


def rank(text: str) -> float:
    """A number in [0, 1) that depends on the text alone, evenly spread over texts."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") / 2**64


def read_utf8(path: Path) -> str:
    """The text of a file, line ends as "\\n", without a byte-order mark.

    Raises DataError naming the file when it cannot be read, and line and byte where it is not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Allow reading it or move it away.") from error
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 at line {raw[: error.start].count(10) + 1}, byte {error.start} of the file "
            f"(0x{raw[error.start]:02x}: {error.reason}). Save it again as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def blocks(texts: Iterable[str], length: int = BLOCK_CHARACTERS) -> Iterator[list[str]]:
    """Consecutive texts in lists that come to at least `length` characters each, but for the last."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= length:
            yield block
            block, size = [], 0
    if block:
        yield block


def sides(ranks: Sequence[float], heldout: float) -> list[bool]:
    """Which are held out: those whose rank is below the share, at least one and at most all but one."""
    chosen = [rank < heldout for rank in ranks]
    if ranks and not any(chosen):
        chosen[ranks.index(min(ranks))] = True
    if len(ranks) > 1 and all(chosen):
        chosen[ranks.index(max(ranks))] = False
    return chosen
