"""The cost of a server: its start, an open stream, and a written event.

Every sample starts a new server process and measures it from outside, over loopback,
with a client in another process. All servers stream the same events; ours also runs
a pipeline for each stream, with its journal, and cancels it when the client leaves.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import attrs

from benchmarks.measure import Contender, Experiment, Reading
from benchmarks.servers.client import Load
from benchmarks.servers.process import ROOT, Served, cpu_s, served

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENTS_PER_S = 20
IDLE_S = 3600
CLIENT_LIMIT_S = 150


@attrs.frozen
class Peer:
    """How a contender's server is started, and where it streams events."""

    arguments: tuple[str, ...]
    path: str
    """With `{every_s}`, the seconds from one event to the next."""


PEERS: Mapping[str, Peer] = {
    "orchestra": Peer(
        ("-m", "orchestra", "serve", "benchmarks.servers.pipelines:ticks", "--port", "0"),
        "/v1/pipelines/ticks/runs?every_s={every_s}",
    ),
    "trio+h11": Peer(("-m", "benchmarks.servers.bare"), "/events?every_s={every_s}"),
    "fastapi": Peer(("-m", "benchmarks.servers.fast"), "/events?every_s={every_s}"),
    "fastapi+uvloop": Peer(
        ("-m", "benchmarks.servers.fast", "uvloop"), "/events?every_s={every_s}"
    ),
}


def experiments(*, quick: bool) -> list[Experiment]:
    """Start-up, memory at 2,000 idle streams, and CPU at 500 streams of 20 events a second."""
    idle, busy, window_s = (50, 20, 1.0) if quick else (2_000, 500, 6.0)
    rounds = 1 if quick else 3
    return [
        Experiment(
            name="first-event",
            question="from process start to the first event of a stream",
            unit="ms",
            rounds=2 if quick else 9,
            contenders=_each(_first_event),
            target=400.0,
        ),
        Experiment(
            name="idle-stream",
            question=f"resident memory of an open stream, {idle:,} of them idle",
            unit="kB",
            rounds=rounds,
            discarded=0,  # each sample is a new process, and its bytecode is cached by now
            contenders=_each(partial(_idle_stream, idle)),
            target=40.0,
        ),
        Experiment(
            name="sse-event",
            question=f"CPU of an event, {busy} streams of {EVENTS_PER_S} a second, {window_s:g} s",
            unit="us",
            rounds=rounds,
            discarded=0,
            contenders=_each(partial(_sse_event, busy, window_s)),
        ),
    ]


def _each(sample: Callable[[Peer], Reading]) -> dict[str, Contender]:
    return {name: partial(sample, peer) for name, peer in PEERS.items()}


def _first_event(peer: Peer) -> Reading:
    with served(peer.arguments) as server:
        listening = time.perf_counter()
        request = (
            f"GET {peer.path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as connection:
            connection.sendall(request.format(every_s=IDLE_S).encode())
            received = b""
            while b"data:" not in received:  # more than the first byte: the first event itself
                more = connection.recv(65_536)
                if not more:
                    raise ConnectionError(f"no event came, only {received!r}")
                received += more
        first = time.perf_counter()
        seen = {
            "listening ms": (listening - server.began) * 1e3,
            "CPU ms": cpu_s(server.pid) * 1e3,
        }
    return Reading((first - server.began) * 1e3, seen)


def _idle_stream(streams: int, peer: Peer) -> Reading:
    with served(peer.arguments) as server:
        found = _load(server, peer.path.format(every_s=IDLE_S), streams, 0.0)
    seen = {"ms to open one": found.open_s / streams * 1e3}
    return Reading(found.bytes_per_stream / 1e3, seen)


def _sse_event(streams: int, window_s: float, peer: Peer) -> Reading:
    with served(peer.arguments) as server:
        found = _load(server, peer.path.format(every_s=1 / EVENTS_PER_S), streams, window_s)
    due = streams * EVENTS_PER_S * found.window_s
    seen = {"delivered": found.events / due, "cores": found.cpu_s / found.window_s}
    return Reading(found.cpu_s / found.events * 1e6, seen)


def _load(server: Served, path: str, streams: int, window_s: float) -> Load:
    module = "benchmarks.servers.client"
    numbers = (str(server.port), path, str(server.pid), str(streams), str(window_s))
    client = subprocess.run(
        [sys.executable, "-m", module, *numbers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CLIENT_LIMIT_S,
        check=False,
    )
    if client.returncode:
        raise RuntimeError(f"the clients failed: {client.stderr.strip().splitlines()[-1]}")
    return Load(**json.loads(client.stdout))
