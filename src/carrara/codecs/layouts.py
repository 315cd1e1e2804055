"""How texts of any length become windows of one length: one after another, or a window each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Layout = Literal["packed", "rows"]
Ids = npt.NDArray[np.int32]

_WINDOWS_AT_ONCE = 4096


def packed(texts: Iterable[npt.NDArray[Any]], length: int, end: int) -> Iterator[Ids]:
    """Windows (n, length) of one long run of tokens, each text followed by an end token; what is left at the last is dropped."""
    held: list[npt.NDArray[Any]] = []
    size, stop = 0, np.array([end], dtype=np.int32)
    for tokens in texts:
        held += [tokens, stop]
        size += len(tokens) + 1
        if size >= _WINDOWS_AT_ONCE * length:
            windows, rest = _cut(held, length)
            yield windows
            held, size = [rest], len(rest)
    if size >= length:
        yield _cut(held, length)[0]


def _cut(held: list[npt.NDArray[Any]], length: int) -> tuple[Ids, Ids]:
    stream = np.concatenate(held).astype(np.int32)
    whole = len(stream) - len(stream) % length
    return stream[:whole].reshape(-1, length), stream[whole:]


def rows(texts: Iterable[npt.NDArray[Any]], length: int, end: int) -> Iterator[Ids]:
    """Windows (n, length), one for each text in its order, filled up with end tokens.

    Longer texts are cut, and the log says how many.
    """
    held: list[npt.NDArray[Any]] = []
    seen = cut = 0
    for tokens in texts:
        held.append(tokens[:length])
        seen, cut = seen + 1, cut + (len(tokens) > length)
        if len(held) == _WINDOWS_AT_ONCE:
            yield _filled(held, length, end)
            held = []
    if held:
        yield _filled(held, length, end)
    if cut:
        log.warning("%d of %d texts are longer than a window of %d tokens, and are cut", cut, seen, length)


def _filled(held: list[npt.NDArray[Any]], length: int, end: int) -> Ids:
    windows = np.full((len(held), length), end, dtype=np.int32)
    for window, tokens in zip(windows, held, strict=True):
        window[: len(tokens)] = tokens
    return windows
