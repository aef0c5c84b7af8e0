"""The command line: `orchestra run ...`, `orchestra serve ...`; `app` lists all commands."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]

STARTING_OBJECTS = 500_000
"""Allocations before the garbage collector first runs.

A start makes 130,000 objects, nearly all of which stay; with Python's own threshold of 700 it would
go through them 150 times, a tenth of its time. `serve` sets another threshold once it has started.
"""


def main() -> int:
    """Run the command line of this process; returns its exit code."""
    gc.set_threshold(STARTING_OBJECTS, *gc.get_threshold()[1:])
    if sys.argv[1:2] == ["serve"]:
        from orchestra.server.processes.hangups import remember

        remember()
    from orchestra.cli.app import main as run

    return run()
