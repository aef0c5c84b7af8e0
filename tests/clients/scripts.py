"""Clients that are written in JavaScript: with Node, and in a browser.

`nox -s servers` installs the first, with a Node that is new enough for all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import ONE_PYTHON, PATIENCE_S
from tests.servers.processes import PROGRAMS

HERE = Path(__file__).parent
NODE, PACKAGES = PROGRAMS / "node", HERE / "node_modules"
BROWSER = "chromium"
CALM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""It would ask the network for this and that, and needs a sandbox that a container has not."""

EXCUSED = pytest.mark.may_skip("the clients of others are the same on each of our Pythons")
ONCE = [] if sys.version_info[:2] == ONE_PYTHON else [EXCUSED]
"""The marks of tests that are skipped on our other Pythons, and on no account on this one."""


def only_once() -> None:
    """Skip the test on all Pythons but one."""
    if sys.version_info[:2] != ONE_PYTHON:
        pytest.skip(EXCUSED.args[0])


def asked(script: str, *arguments: str) -> dict[str, Any]:
    """What a script of this folder saw, by claim."""
    only_once()
    for needed in (NODE, PACKAGES):
        if not needed.exists():
            pytest.skip(f"{needed} is not there; `nox -s servers` installs it")
    done = subprocess.run(
        [str(NODE), str(HERE / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def browser() -> str:
    """Where Chromium is."""
    only_once()
    found = shutil.which(BROWSER)
    if found is None:
        pytest.skip(f"{BROWSER} is not there; Debian's package of that name has it")
    return found
