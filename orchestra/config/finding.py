"""Where the configuration is looked for, and what it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.config.deployment.deployment import Deployment

FILE = "orchestra.toml"
VARIABLE = "ORCHESTRA_CONFIG"


def find_file(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file of the configuration; None where there is none.

    The one given, else that of `ORCHESTRA_CONFIG`, else `orchestra.toml` in the working
    directory, which is the only one that need not exist.
    """
    if given is not None:
        return given
    if named := environ.get(VARIABLE):
        return Path(named)
    usual = Path(FILE)
    return usual if usual.exists() or usual.is_symlink() else None  # which may lead nowhere


def read_deployment(
    config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Deployment:
    """The deployment: of the file, else of keys in the environment, else the built-in one.

    The file is `config`, else that of `ORCHESTRA_CONFIG`, else `./orchestra.toml`.

    Raises:
        ConfigError: the file has problems; the error lists all of them.
    """
    from orchestra.config.deployment.environment import from_environment

    file = find_file(config, environ)
    found = from_environment(environ)
    if file is None:
        return found
    from orchestra.config.reading import read_file  # a dozen modules, for those who have a file

    return read_file(file, found)
