"""The command line: `orchestra run | serve | check | draw | ingest | models | demo`."""

from __future__ import annotations

import gc

__all__ = ["main"]

YOUNG_OBJECTS = 50_000
"""New objects between two searches for garbage.

Of Python's own 700, a start makes 150 searches through modules that all stay: a tenth of its time.
"""


def main() -> int:
    """Run the command that this process was started with; its exit code."""
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    from orchestra.cli.app import main as run

    return run()
