"""The bindings of the configured deployment: what commands and `orchestra.run` use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orchestra.config.bindings import DATA, LocalBindings
from orchestra.config.finding import find_file, read_deployment


def default_bindings(
    data: Path | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    several: bool = False,
    patient: bool = False,
) -> LocalBindings:
    """The bindings of the deployment that `read_deployment` finds.

    Stores are kept in the folder `data`, else in the one that the file names, else in
    `.orchestra`, which need not exist. Nothing is opened or loaded before it is used, and a
    missing API key is an error only when its model is first used. `several` says that other
    processes serve the same deployment, and `patient` that nobody waits, so that a call of the
    state may take at least 5 s, as in `orchestra batch`.

    Raises:
        ConfigError: the file has problems; the error lists all of them.
    """
    if find_file(config, environ) is None:
        return LocalBindings(data or DATA, environ=environ, several=several, patient=patient)
    deployment = read_deployment(config, environ)
    return LocalBindings(
        data or deployment.data or DATA, deployment, environ, several=several, patient=patient
    )
