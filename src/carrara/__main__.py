"""`python -m carrara` is `carrara`."""

from __future__ import annotations

import sys

from carrara.cli import main

if __name__ == "__main__":
    sys.exit(main())
