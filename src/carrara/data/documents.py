"""Many texts as one run of bytes: from 4 to 120 MB of them are read from the disk as they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from carrara.errors import DataError

_AT_ONCE = 1 << 20


class Documents(Sequence[str]):
    """N texts, in UTF-8 one after another, and where each ends.

    data: uint8 (bytes,), usually memory-mapped; ends: int64 (N,), never falling, the last one the number of bytes.
    Raises DataError when the two do not fit together.
    """

    def __init__(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        if data.dtype != np.uint8 or data.ndim != 1 or ends.dtype != np.int64 or ends.ndim != 1:
            raise DataError(
                f"texts are uint8 (bytes,) and int64 (N,) ends; these are {data.dtype} {data.shape} and {ends.dtype} "
                f"{ends.shape}. Build them with Documents.of."
            )
        steps = np.diff(ends, prepend=0)
        if (len(steps) and steps.min() < 0) or steps.sum() != len(data):
            raise DataError(f"the ends of {len(ends)} texts do not divide {len(data)} bytes. Use Documents.of.")
        self.data, self.ends = data, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Documents:
        """These texts, in memory."""
        raws = [text.encode("utf-8") for text in texts]
        ends = np.cumsum([len(raw) for raw in raws], dtype=np.int64)
        return cls(np.frombuffer(b"".join(raws), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return self.raw(index).decode("utf-8")

    def raw(self, index: int) -> bytes:
        """The bytes of one text. Raises IndexError beyond the last."""
        row = range(len(self))[index]
        start = 0 if row == 0 else int(self.ends[row - 1])
        return self.data[start : int(self.ends[row])].tobytes()

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.ends.tolist():
            yield self.data[start:end].tobytes().decode("utf-8")
            start = end

    def chosen(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """The texts of these rows, in their order."""
        return [self[row] for row in rows.tolist()]

    def lengths(self) -> npt.NDArray[np.int64]:
        """The bytes of each text, int64 (N,)."""
        return np.diff(self.ends, prepend=0)

    def characters(self) -> int:
        """How many characters (code points) all texts have."""
        starts = range(0, len(self.data), _AT_ONCE)
        return sum(int(leads(self.data[start : start + _AT_ONCE]).sum()) for start in starts)


def leads(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which bytes of UTF-8 begin a character, bool of the same shape: all but those of the form 10xxxxxx."""
    found: npt.NDArray[np.bool_] = (raw & 0xC0) != 0x80
    return found
