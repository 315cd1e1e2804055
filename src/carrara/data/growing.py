"""Arrays that are written row by row, straight to disk, and read back memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt


class Growing:
    """A .npy file of shape (n, *shape) that rows are appended to; n is known when it is finished."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.shape, self.rows = path, np.dtype(dtype), shape, 0
        self._file = path.open("wb")
        self._header()

    def _header(self) -> None:
        # numpy pads its header so that the first dimension can grow in place: it is written again at the end.
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Append rows, (n, *shape)."""
        self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.rows += len(rows)

    def finish(self) -> npt.NDArray[Any]:
        """The whole array, memory-mapped, once it is on the disk."""
        self._file.seek(0)
        self._header()
        flush(self._file)
        self._file.close()
        return mapped(self.path)

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array in a .npy file, memory-mapped and read-only; one without any number is read, as none can be mapped."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False) if _filled(path) else np.load(path)
    return array


def _filled(path: Path) -> bool:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return 0 not in shape


def flush(file: IO[Any]) -> None:
    """Waits until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
