"""Every error carrara raises on purpose.

CarraraError            a run of the command line ends with exit code 1
├── InputError          what was given cannot be used: exit code 2; also a ValueError
│   ├── RecipeError     a recipe's key, type or combination
│   ├── DataError       a dataset's files
│   └── MissingExtra    an optional package is not installed
├── RunError            the work itself failed
│   ├── NonFinite       NaN or infinity in training or sampling
│   ├── NoRoom          a disk is full
│   └── DamagedFile     a checkpoint or weights file is not what its manifest says
└── Interrupted         a signal asked the run to stop: exit code 130 or 143
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CarraraError(Exception):
    """The base of every error carrara raises on purpose; its text is one to three plain sentences."""

    exit_code = 1


class InputError(CarraraError, ValueError):
    """What was given cannot be used: the text says what it was, what is allowed and what to do."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe's key, type or combination is refused."""


class DataError(InputError):
    """A dataset's files cannot be used."""


class MissingExtra(InputError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed. Install it with: pip install 'carrara[{extra}]'"
        )


class RunError(CarraraError):
    """The work itself failed."""


class NonFinite(RunError):
    """NaN or infinity appeared; the text names where."""


class NoRoom(RunError):
    """A disk is full; the text names the file that did not find room."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"{path} cannot be written, for its disk is full. Free some room and give the same command again; what was written "
            "before is whole"
        )


class DamagedFile(RunError):
    """A file is not what its manifest says."""


class Interrupted(CarraraError):
    """The run was asked to stop, has saved, and says how to go on."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The words that may follow an error: the nearest spelling, if there is one, then all that is allowed."""
    options = sorted(allowed)
    guess = difflib.get_close_matches(word, options, n=1)
    return (f"did you mean {guess[0]!r}? " if guess else "") + "allowed: " + ", ".join(options)
