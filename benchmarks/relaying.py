"""The cost of a relay of model answers: ours compared with the alternatives.

A fake provider sends twenty tokens a second on each stream; clients in a third process read
them through the relay, which is started anew for each sample and measured from outside. Ours
runs with all layers of production on; what the others leave out is said in the README.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.contenders.relays import RELAYS, Place, Started, asked
from benchmarks.measure import Experiment, Reading
from benchmarks.servers.process import ROOT, served, wait_idle
from benchmarks.servers.relayed import Load, Order, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Relay = Callable[[Place], Started]

PATH = "/v1/chat/completions"
EVERY_S = 0.05
"""From one token of a stream to the next."""
SELDOM_S = 5.0
"""The same where it matters that streams are open, and not how much is said."""
DELAY_S = 0.02
"""How long the provider takes for an answer that is not streamed."""
TOKENS = 4_000
"""More than a stream is sent while it is measured."""
REQUESTS_A_SECOND = 700
AT_ONCE = 64
START_LIMIT_S = 60.0
OPEN_LIMIT_S = 60.0
CLIENT_LIMIT_S = 150


@attrs.frozen
class Running:
    """A relay that accepts: its process, its port, and the key that it wants."""

    pid: int
    port: int
    key: str


def experiments(*, quick: bool) -> list[Experiment]:
    """CPU, memory and lateness of streams; single requests, and many; ten thousand streams."""
    streams, open_, window_s = (20, 50, 1.0) if quick else (400, 1_000, 6.0)
    alone, many = (50, 200) if quick else (500, 4_000)
    rounds = 1 if quick else 3
    found = [
        _experiment(
            "relay-token",
            f"CPU of a relayed token, {streams} streams of 20 a second",
            "us",
            rounds,
            partial(_token, streams, window_s),
            target=75.0,
        ),
        _experiment(
            "relay-memory",
            f"private memory of a relayed stream, {open_:,} of them open",
            "kB",
            rounds,
            partial(_memory, open_),
            target=45.0,
        ),
        _experiment(
            "relay-alone",
            "what a relay adds to a request when there is one at a time; the 99th percentile",
            "ms",
            rounds,
            partial(_alone, alone),
            target=3.0,
        ),
        _experiment(
            "relay-requests",
            f"a request of {AT_ONCE} at once, two processes, {DELAY_S * 1e3:g} ms at the provider",
            "ms of wall time",
            rounds,
            partial(_requests, many),
            target=1e3 / REQUESTS_A_SECOND,
        ),
    ]
    held = partial(_held, 10_000, 10.0)
    return [
        *found,
        *([] if quick else [_experiment("relay-held", _HELD, "streams", 1, held, target=0.0)]),
    ]


_HELD = "streams lost of 10,000 at once, two processes, a token each 5 s"


def _experiment(
    name: str,
    question: str,
    unit: str,
    rounds: int,
    sample: Callable[[Relay], Reading],
    *,
    target: float,
) -> Experiment:
    return Experiment(
        name=name,
        question=question,
        unit=unit,
        rounds=rounds,
        discarded=0,  # each sample is a new process
        contenders={each: partial(sample, relay) for each, relay in RELAYS.items()},
        target=target,
    )


def _token(streams: int, window_s: float, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S) as running:
        load = _load(running, streams, window_s)
    seen = {
        "delivered": load.tokens / (streams / EVERY_S * load.window_s),
        "cores": load.cpu_s / load.window_s,
        "late ms p50": load.late_ms[0],
        "late ms p99": load.late_ms[1],
        "kB kept of a token": load.bytes_per_token / 1e3,
        "dropped": float(load.dropped),
    }
    return Reading(load.cpu_s / max(load.tokens, 1) * 1e6, seen)


def _memory(streams: int, relay: Relay) -> Reading:
    with _relaying(relay, SELDOM_S) as running:
        load = _load(running, streams, 0.0)
    return Reading(load.bytes_per_stream / 1e3, _opening(load))


def _alone(requests: int, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S) as running:
        pace = _pace(running, 1, requests)
    seen = {"p50": pace.added_ms[0], "CPU ms": pace.cpu_s / pace.requests * 1e3}
    return Reading(pace.added_ms[1], seen)


def _requests(requests: int, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S, workers=2) as running:
        pace = _pace(running, AT_ONCE, requests)
    seen = {
        "a second": pace.requests / pace.took_s,
        "CPU ms": pace.cpu_s / pace.requests * 1e3,
        "added ms p50": pace.added_ms[0],
        "added ms p99": pace.added_ms[1],
    }
    return Reading(pace.took_s / pace.requests * 1e3, seen)


def _held(streams: int, window_s: float, relay: Relay) -> Reading:
    with _relaying(relay, SELDOM_S, workers=2) as running:
        load = _load(running, streams, window_s)
    seen = {
        **_opening(load),
        "kB of each": load.bytes_per_stream / 1e3,
        "late ms p99": load.late_ms[1],
    }
    return Reading(float(load.dropped), seen)


def _opening(load: Load) -> dict[str, float]:
    return {
        "opened": float(load.opened),
        "ms to open one": load.open_s / max(load.opened, 1) * 1e3,
    }


@contextmanager
def _relaying(relay: Relay, every_s: float, workers: int = 1) -> Iterator[Running]:
    """A relay in front of a provider, once all of its processes accept."""
    provider = ("-m", "benchmarks.servers.provider", str(every_s), str(DELAY_S))
    with tempfile.TemporaryDirectory() as folder, served(provider) as upstream:
        started = relay(Place(Path(folder), upstream.port, workers))
        with served(
            started.arguments,
            program=started.program,
            environ=started.environ,
            port=started.port,
            limit_s=START_LIMIT_S,
        ) as server:
            wait_idle(server.pid, START_LIMIT_S)
            yield Running(server.pid, server.port, started.key)


def _load(running: Running, streams: int, window_s: float) -> Load:
    order = _order(running, streams, streamed=True)
    return Load(**_measured(attrs.evolve(order, window_s=window_s)))


def _pace(running: Running, at_once: int, requests: int) -> Pace:
    order = _order(running, at_once, streamed=False)
    return Pace(**_measured(attrs.evolve(order, requests=requests)))


def _order(running: Running, streams: int, *, streamed: bool) -> Order:
    return Order(
        port=running.port,
        pid=running.pid,
        path=PATH,
        body=json.dumps(asked(TOKENS, streamed=streamed)),
        headers={"authorization": f"Bearer {running.key}"},
        streams=streams,
        limit_s=OPEN_LIMIT_S,
    )


def _measured(order: Order) -> dict[str, Any]:
    """What the clients saw, in a process of their own. Raises RuntimeError where they failed."""
    client = subprocess.run(
        [sys.executable, "-m", "benchmarks.servers.relayed", json.dumps(attrs.asdict(order))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=CLIENT_LIMIT_S,
        check=False,
    )
    if client.returncode:
        raise RuntimeError(f"the clients failed: {client.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(client.stdout)
    return found
