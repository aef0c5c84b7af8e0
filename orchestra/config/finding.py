"""Finding and reading the configuration."""

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
    """The path of the configuration file; None if there is none.

    That is `given`, else the value of `ORCHESTRA_CONFIG`, else `orchestra.toml` in the working
    directory. Only the last is checked for existence.
    """
    if given is not None:
        return given
    if named := environ.get(VARIABLE):
        return Path(named)
    default = Path(FILE)
    return default if default.exists() or default.is_symlink() else None  # a broken link fails


def read_deployment(
    config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Deployment:
    """The deployment of the configuration file, else of keys in the environment, else built in.

    The file is `config`, else the value of `ORCHESTRA_CONFIG`, else `./orchestra.toml`.

    Raises:
        ConfigError: the file has problems; the error lists all of them.
    """
    from orchestra.config.deployment.environment import from_environment

    file = find_file(config, environ)
    deployment = from_environment(environ)
    if file is None:
        return deployment
    from orchestra.config.reading import read_file  # lazy: a dozen modules

    return read_file(file, deployment)
