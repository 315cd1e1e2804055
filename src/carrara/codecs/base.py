"""What a codec may be beside a pair of functions."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Kept(Protocol):
    """A codec that was made from data or by a training: a model's folder has what it is made of, in a folder inside."""

    def save(self, folder: Path) -> None:
        """Writes what it is made of into an empty folder, whose owner writes the files' hashes."""
        ...

    def restore(self, folder: Path) -> None:
        """From now on it is what was saved there; whatever its options name is not looked for."""
        ...
