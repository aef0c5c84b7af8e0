"""Servers of other people, each in a process of its own on a free port of the loopback.

`nox -s servers` installs them, into an environment of nox's and into `node_modules` here; where
they are not, a test that wants one is skipped. Each prints its address, or its two, on its first line, and
ends when its standard input does: none outlives the tests, however these end.
"""

from __future__ import annotations

import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PROGRAMS = FOLDER.parents[1] / ".nox" / "servers" / "bin"
NODE_MODULE = FOLDER / "node_modules" / "@copilotkit" / "aimock"
START_S, END_S = 60.0, 5.0


def ending_with_us(*command: str | Path) -> list[str | Path]:
    """A command that Linux kills when this process ends, also when that is killed: for servers that
    do not watch their standard input.

    pytest-xdist kills a worker that takes more than ten seconds to end, before `atexit` is served.
    """
    # Linux takes the end of the thread that started it for the end of its parent.
    assert threading.current_thread() is threading.main_thread(), "start it in the main thread"
    tool = shutil.which("setpriv")  # of util-linux
    return [tool, "--pdeathsig", "KILL", *command] if tool else list(command)


@contextmanager
def serving(program: str, *arguments: str) -> Iterator[list[str]]:
    """The addresses of the server that is this file of the folder, while it runs."""
    with_node = program.endswith(".mjs")
    interpreter = PROGRAMS / ("node" if with_node else "python")
    for needed in (interpreter, *([NODE_MODULE] if with_node else [])):
        if not needed.exists():
            pytest.skip(f"{needed} is not there; `nox -s servers` installs it")
    command = [str(interpreter), str(FOLDER / program), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _first_line(process).split()
        finally:
            _end(process)


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise RuntimeError(f"{process.args!r} did not say within {START_S:g} s where it listens")
    return line


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
