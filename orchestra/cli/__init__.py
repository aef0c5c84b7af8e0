"""The command line: `orchestra run | serve | check | draw | ingest | demo`."""

from __future__ import annotations

from orchestra.cli.app import main

__all__ = ["main"]
