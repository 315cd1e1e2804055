"""Parts of what takes long to make, kept as each is made, until the whole is there.

<cache>/encoded/.staging-parts-<key>/train-512-<sha256>.npy   what was made of the examples from number 512 on

A part is whole or not there, and is known by its hash. A folder that nobody adds to for a week is swept away with other staging.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from carrara import files
from carrara.data.cache import STAGING

Array = npt.NDArray[Any]


@dataclass
class Parts:
    """A folder of parts, and how many examples are done."""

    folder: Path
    total: int
    progress: Callable[[int, int], None] | None = None
    done: int = 0

    @classmethod
    def beside(cls, place: Path, total: int, progress: Callable[[int, int], None] | None = None) -> Parts:
        """Those of what will be in the folder `place`."""
        return cls(place.with_name(f"{STAGING}parts-{place.name}"), total, progress)

    def kept(self, name: str, rows: range, make: Callable[[], Array]) -> Array:
        """What `make` makes of examples with these numbers; it is called where that is not kept, or is damaged."""
        found = self._found(name, rows)
        if found is None:
            found = make()
            self._keep(name, rows, found)
        self.done += len(rows)
        if self.progress is not None:
            self.progress(self.done, self.total)
        return found

    def clear(self) -> None:
        """Deletes them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self, name: str, rows: range) -> Array | None:
        for path in self.folder.glob(f"{name}-{rows.start}-*.npy"):
            with suppress(OSError, ValueError):
                raw = path.read_bytes()
                if path.name == _name(name, rows, raw):
                    found: Array = np.load(io.BytesIO(raw), allow_pickle=False)
                    if len(found) == len(rows):
                        return found
        return None

    def _keep(self, name: str, rows: range, made: Array) -> None:
        buffer = io.BytesIO()
        np.save(buffer, made, allow_pickle=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # Another process has made the whole, and cleared its parts away.
            files.write(self.folder / _name(name, rows, buffer.getvalue()), buffer.getvalue())


def _name(name: str, rows: range, raw: bytes) -> str:
    return f"{name}-{rows.start}-{hashlib.sha256(raw).hexdigest()[:32]}.npy"
