"""A server in a process of its own, and what the kernel says of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 20.0
_ADDRESS = re.compile(rb"http://127\.0\.0\.1:(\d+)")
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Served:
    """A running server."""

    pid: int
    port: int
    began: float
    """When its process was started, by `time.perf_counter`."""


@contextmanager
def served(arguments: Sequence[str]) -> Iterator[Served]:
    """A server started with this Python, once it has printed its address; killed at the end.

    Raises:
        RuntimeError: it ended, or printed no address in time; with what it printed.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    # A container that forbids bytecode got it when it was built: compiling is not what we measure.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as printed:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Served(process.pid, _port(process, printed.fileno(), began), began)
        finally:
            process.kill()  # its streams never end, and how it would drain is not measured here
            process.wait()


def _port(process: subprocess.Popen[bytes], printed: int, began: float) -> int:
    while True:
        output = os.pread(printed, 65_536, 0)
        if found := _ADDRESS.search(output):
            return int(found[1])
        if process.poll() is not None or time.perf_counter() - began > START_LIMIT_S:
            raise RuntimeError(f"the server did not start: {output.decode(errors='replace')}")
        time.sleep(0.001)


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and its children, to 10 ms."""
    return sum(_own_cpu_s(one) for one in _family(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children; pages they share count in each."""
    return sum(_own_resident_bytes(one) for one in _family(pid))


def _own_cpu_s(pid: int) -> float:
    # The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _own_resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))
