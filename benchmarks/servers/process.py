"""A server in a process of its own, and what the kernel says of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 20.0
QUIET_S = 0.5
IDLE = 0.1
"""Of one core: a server that has used less for so long waits for its clients."""
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
def served(
    arguments: Sequence[str],
    *,
    program: str = sys.executable,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    limit_s: float = START_LIMIT_S,
) -> Iterator[Served]:
    """A server started with this Python, once it has printed its address; killed at the end.

    Or with another `program`; `environ` is added to the environment. Of one that prints no
    address, `port` is where it accepts.

    Raises:
        RuntimeError: it ended, or printed no address in time; with what it printed.
    """
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        **(environ or {}),
    }
    # A container that forbids bytecode got it when it was built: compiling is not what we measure.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as printed:
        began = time.perf_counter()
        process = subprocess.Popen(
            [program, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if port is None:
                port = _wait(partial(_printed, printed.fileno()), process, printed, limit_s)
            else:
                _wait(partial(_accepts, port), process, printed, limit_s)
            yield Served(process.pid, port, began)
        finally:
            # Its streams never end, and how it would drain is not measured here; workers of it
            # would go on, and be measured with what comes next.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(
    asking: Callable[[], int | None],
    process: subprocess.Popen[bytes],
    printed: IO[bytes],
    limit_s: float,
) -> int:
    limit = time.perf_counter() + limit_s
    while True:
        if found := asking():
            return found
        if process.poll() is not None or time.perf_counter() > limit:
            output = os.pread(printed.fileno(), 65_536, 0)
            raise RuntimeError(f"the server did not start: {output.decode(errors='replace')}")
        time.sleep(0.001)


def _printed(descriptor: int) -> int | None:
    found = _ADDRESS.search(os.pread(descriptor, 65_536, 0))
    return int(found[1]) if found else None


def _accepts(port: int) -> int | None:
    with socket.socket() as probe:
        return None if probe.connect_ex(("127.0.0.1", port)) else port


def wait_idle(pid: int, limit_s: float) -> None:
    """Until a server that accepts has nothing more to start.

    Several processes of one accept while the others still import: clients that connect now, and
    stay, would all have the first.

    Raises:
        TimeoutError: it is at work all the time.
    """
    limit, used_s = time.perf_counter() + limit_s, cpu_s(pid)
    while time.perf_counter() < limit:
        time.sleep(QUIET_S)
        before_s, used_s = used_s, cpu_s(pid)
        if used_s - before_s < IDLE * QUIET_S:
            return
    raise TimeoutError(f"process {pid} was not idle within {limit_s:g} s")


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and its children, to 10 ms."""
    return sum(_own_cpu_s(one) for one in _family(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children; pages they share count in each."""
    return sum(_own_resident_bytes(one) for one in _family(pid))


def private_bytes(pid: int) -> int:
    """Memory that a process and its children share with nobody: exact, and slower to ask for."""
    return sum(_own_private_bytes(one) for one in _family(pid))


def _own_private_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE)))


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
