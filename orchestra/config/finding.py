"""Where the configuration is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILE = "orchestra.toml"
VARIABLE = "ORCHESTRA_CONFIG"


def find(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file of the configuration; None where there is none.

    The one given, else that of `ORCHESTRA_CONFIG`, else `orchestra.toml` in the working
    directory, which is the only one that need not exist.
    """
    if given is not None:
        return given
    if named := environ.get(VARIABLE):
        return Path(named)
    usual = Path(FILE)
    return usual if usual.exists() else None
