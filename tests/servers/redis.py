"""A real Redis for the tests, on a free port of the loopback; it dies with the test."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import reserved_port
from tests.servers.processes import ending_with_us

START_S = 20.0


class Redis:
    """A server that can be killed, started again on its port, stopped for a while."""

    def __init__(self, program: str, folder: str, port: int, tls_port: int) -> None:
        self._program = program
        self._folder = folder
        self.port, self.tls_port = port, tls_port
        self.socket_file = f"{folder}/redis.sock"
        self.start()

    def start(self, *more: str) -> None:
        """Start it, empty, and wait until it answers."""
        self._process = subprocess.Popen(
            ending_with_us(
                *(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", self._folder, *more),
            ),
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > until:
                raise RuntimeError(f"{self._program} did not answer within {START_S:g} s")

    def start_in_production(self, folder: Path, *more: str) -> None:
        """Start it also under TLS, with `server.pem` of a folder and its `ca.pem`."""
        self.start(
            *("--tls-port", str(self.tls_port), "--tls-ca-cert-file", str(folder / "ca.pem")),
            *("--tls-cert-file", str(folder / "server.pem")),
            *("--tls-key-file", str(folder / "server.pem"), "--unixsocket", self.socket_file),
            *more,
        )

    def kill(self) -> None:
        """It is gone at once."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """It answers nothing, and keeps its connections, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), START_S) as asked:
                asked.sendall(b"PING\r\n")
                return bool(asked.recv(100))
        except OSError:
            return False


@contextmanager
def redis() -> Iterator[Redis]:
    """A Redis with nothing in it; where there is none to start, the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server: apt-get install redis-server")
    with (
        tempfile.TemporaryDirectory() as folder,
        reserved_port() as port,
        reserved_port() as tls_port,
    ):
        server = Redis(program, folder, port, tls_port)
        try:
            yield server
        finally:
            server.kill()
