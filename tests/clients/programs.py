"""What the clients' tests share: a server of ours as a process, and the clients' own Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.patience import line_with

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("CLIENTS_PYTHON", ROOT / ".nox" / "clients" / "bin" / "python"))
"""Where `nox -s clients` installs them: they want versions of their own."""
PATIENCE_S = 60


@contextmanager
def running(config: Path) -> Iterator[str]:
    """The base URL of a server of ours, while it runs."""
    command = [sys.executable, "-m", "tests.clients.served", str(config)]
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "upstream")
    environ = {**os.environ, **keys, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, bufsize=0, env=environ, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            yield line_with(process.stdout, "http").strip() + "/v1"
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


OTHERS = pytest.mark.may_skip("clients of others: on one Python, and where they are installed")
ONE_PYTHON = (3, 11)


def python_of_clients() -> str:
    """The Python that has them; without it, or on another than one, the test is skipped."""
    if sys.version_info[:2] != ONE_PYTHON:
        pytest.skip("the clients of others are the same on each of our Pythons")
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is not there; `nox -s clients` installs it")
    return str(PYTHON)


def run(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """What a program prints that has to succeed."""
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/tmp")}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**bare, **environ},
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
