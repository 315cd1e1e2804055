"""What a Fréchet distance is measured against in place of a dataset's own training pictures: a statistics file.

Published distances are from such files. They say neither which network nor which resizer made them; only a length that
differs gives a wrong one away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from carrara import files
from carrara.evaluation.features import Features
from carrara.evaluation.frechet import Normal
from carrara.evaluation.statistics_file import KEYS, SPATIAL_KEYS, check_length, keys_in, read_statistics

SPATIAL_DIM = 2023


@dataclass(frozen=True)
class Reference:
    """The Normal in a statistics file, the count behind it (None: the file does not say), and the file's name and SHA-256."""

    normal: Normal = field(repr=False)
    n: int | None
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path, features: Features) -> Reference:
        """The Reference in a `.npz`, for these features; of sFID's where the file holds both and the features are those.

        Raises InputError where its mean is of another length, and what `read_statistics` raises.
        """
        spatial = features.dim == SPATIAL_DIM and set(SPATIAL_KEYS) <= keys_in(path)
        found = read_statistics(path, SPATIAL_KEYS if spatial else KEYS)
        check_length(path, found, features)
        return cls(found.normal(), found.n, path.name, files.sha256(path))

    def __str__(self) -> str:
        count = "number unknown" if self.n is None else f"{self.n} pictures"
        return f"the file {self.name} ({count})"
