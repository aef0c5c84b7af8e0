"""The servers that tests start end with the process of the tests, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.patience import eventually

ROOT = Path(__file__).parents[1]
STARTS = """
import signal
from tests.{module} import {server}
print({server}()._process.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize(
    ("module", "server"),
    [("stores.states", "shared_redis"), ("servers.postgres", "shared_postgres")],
)
def test_a_server_does_not_outlive_tests_that_are_killed(module: str, server: str) -> None:
    """As pytest-xdist kills a worker that is slow to end, before it has served its `atexit`."""
    command = [sys.executable, "-c", STARTS.format(module=module, server=server)]
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # Postgres may run as another user
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE) as tests:
            assert tests.stdout is not None
            line = tests.stdout.readline()
            tests.kill()
        if not line:
            pytest.skip(f"{server} cannot be started here")
        eventually(f"the end of {server}", lambda: _ended(int(line)))


def _ended(process: int) -> bool:
    """Whether there is no such process, or only what is left of it for its parent."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True
