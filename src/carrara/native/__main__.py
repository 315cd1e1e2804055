"""`python -m carrara.native`: compiles the kernels for this machine, as installation does, and says whether they are there."""

from __future__ import annotations

import logging

from carrara.native.common import usable
from carrara.native.library import built


def main() -> None:
    """Says in a line what networks are computed with here."""
    logging.basicConfig(level="INFO", format="%(message)s")
    print(f"carrara's own kernels: {built()}" if usable() else "networks are computed by torch's kernels")  # noqa: T201


if __name__ == "__main__":
    main()
