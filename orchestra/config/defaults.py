"""The bindings of whoever says nothing else: those of what is configured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orchestra.config.bindings import DATA, LocalBindings
from orchestra.config.finding import find, read_deployment


def default_bindings(
    data: Path | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    several: bool = False,
) -> LocalBindings:
    """The bindings of what is configured, as `read_deployment` finds it.

    Stores are kept in the folder `data`, else in the one that the file says, else in
    `.orchestra`. Nothing is opened, loaded or made before it is used; the folder need not
    exist, and a missing key is an error when its model is first asked for.

    Raises:
        ConfigError: something in the file is wrong; all of it is told.
    """
    if find(config, environ) is None:
        return LocalBindings(data or DATA, environ=environ, several=several)
    found = read_deployment(config, environ)
    return LocalBindings(data or found.data or DATA, found, environ, several=several)
