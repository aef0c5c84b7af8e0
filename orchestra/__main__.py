"""`python -m orchestra` is `orchestra`."""

from __future__ import annotations

import sys

from orchestra.cli import main

if __name__ == "__main__":
    sys.exit(main())
