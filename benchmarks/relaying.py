"""What a relay of model answers costs: ours beside what else one would put in that place.

A fake provider sends twenty tokens a second on each stream; clients in a third process read
them through the relay, which is started anew for each sample and measured from outside. Ours
runs with every layer of production on; what the others leave out is said in the README.
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
from typing import TYPE_CHECKING

import attrs

from benchmarks.contenders.relays import RELAYS, Relay
from benchmarks.measure import Contender, Experiment, Reading
from benchmarks.servers.process import ROOT, Served, served
from benchmarks.servers.relayed import Load, Order, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY_S = 0.05
"""From one token of a stream to the next."""
DELAY_S = 0.02
"""How long the provider takes for an answer that is not streamed."""
HELD_EVERY_S = 5.0
"""The same where ten thousand are held: what matters there is that they are."""
TOKENS = 4_000
"""More than a stream is sent while it is measured."""
OPEN_LIMIT_S = 60.0
CLIENT_LIMIT_S = 170


def experiments(*, quick: bool) -> list[Experiment]:
    """CPU, memory and lateness at 400 streams; single requests; ten thousand streams."""
    streams, window_s, rounds = (20, 1.0, 1) if quick else (400, 6.0, 3)
    found = [
        _experiment(
            "relay-token",
            f"CPU of a relayed token, {streams} streams of 20 a second",
            "us per token",
            partial(_token, streams, window_s),
            target=75.0,
            rounds=rounds,
        ),
        _experiment(
            "relay-alone",
            "what a request takes beyond the provider, one at a time; the 99th percentile",
            "ms",
            partial(_alone, 50 if quick else 500),
            target=3.0,
            rounds=rounds,
        ),
        _experiment(
            "relay-requests",
            f"a request at 64 at once, two workers, a provider that takes {DELAY_S * 1e3:g} ms",
            "ms per request",
            partial(_requests, 100 if quick else 3_000),
            target=1e3 / 700,
            rounds=rounds,
        ),
    ]
    if not quick:
        found.append(
            _experiment(
                "relay-held",
                "streams lost of 10,000 at once, two workers",
                "streams",
                partial(_held, 10_000, 20.0),
                target=0.0,
                rounds=1,
            )
        )
    return found


def _experiment(
    name: str,
    question: str,
    unit: str,
    sample: Callable[[Relay], Reading],
    *,
    target: float,
    rounds: int,
) -> Experiment:
    contenders: dict[str, Contender] = {
        each: partial(sample, relay) for each, relay in RELAYS.items()
    }
    return Experiment(
        name=name,
        question=question,
        unit=unit,
        rounds=rounds,
        discarded=0,  # each sample is a new process
        contenders=contenders,
        target=target,
    )


def _token(streams: int, window_s: float, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S) as server:
        load = _load(server, relay, streams, window_s)
    seen = {
        "delivered": load.tokens / (streams / EVERY_S * load.window_s),
        "cores": load.cpu_s / load.window_s,
        "late ms p50": load.late_ms[0],
        "late ms p99": load.late_ms[1],
        "kB a stream": load.bytes_per_stream / 1e3,
        "kB a token": load.bytes_per_token / 1e3,
        "ms to open one": load.open_s / max(load.opened, 1) * 1e3,
        "dropped": load.dropped,
    }
    return Reading(load.cpu_s / max(load.tokens, 1) * 1e6, seen)


def _alone(requests: int, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S) as server:
        pace = _pace(server, relay, 1, requests)
    seen = {"p50": pace.added_ms[0], "CPU ms": pace.cpu_s / pace.requests * 1e3}
    return Reading(pace.added_ms[1], seen)


def _requests(requests: int, relay: Relay) -> Reading:
    with _relaying(relay, EVERY_S, workers=2) as server:
        pace = _pace(server, relay, 64, requests)
    seen = {
        "requests a second": pace.requests / pace.took_s,
        "CPU ms": pace.cpu_s / pace.requests * 1e3,
        "added ms p50": pace.added_ms[0],
        "added ms p99": pace.added_ms[1],
    }
    return Reading(pace.took_s / pace.requests * 1e3, seen)


def _held(streams: int, window_s: float, relay: Relay) -> Reading:
    with _relaying(relay, HELD_EVERY_S, workers=2) as server:
        load = _load(server, relay, streams, window_s)
    seen = {
        "opened": load.opened,
        "ms to open one": load.open_s / max(load.opened, 1) * 1e3,
        "kB a stream": load.bytes_per_stream / 1e3,
        "us a token": load.cpu_s / max(load.tokens, 1) * 1e6,
        "late ms p99": load.late_ms[1],
    }
    return Reading(float(load.dropped), seen)


@contextmanager
def _relaying(relay: Relay, every_s: float, workers: int = 1) -> Iterator[Served]:
    """A relay in front of a provider, once it accepts."""
    provider = ("-m", "benchmarks.servers.provider", str(every_s), str(DELAY_S))
    with tempfile.TemporaryDirectory() as folder, served(provider) as upstream:
        started = relay.started(Path(folder), upstream.port, workers)
        with served(
            started.arguments,
            program=started.program,
            environ=started.environ,
            port=started.port,
            limit_s=OPEN_LIMIT_S,
        ) as server:
            yield server


def _load(server: Served, relay: Relay, streams: int, window_s: float) -> Load:
    return Load(**_measured(_order(server, relay, streams, streamed=True, window_s=window_s)))


def _pace(server: Served, relay: Relay, at_once: int, requests: int) -> Pace:
    return Pace(**_measured(_order(server, relay, at_once, streamed=False, requests=requests)))


def _order(
    server: Served,
    relay: Relay,
    streams: int,
    *,
    streamed: bool,
    window_s: float = 0.0,
    requests: int = 0,
) -> Order:
    asked = relay.asked(TOKENS, streamed=streamed)
    return Order(
        port=server.port,
        pid=server.pid,
        path=asked.path,
        body=json.dumps(asked.body),
        headers=asked.headers,
        streams=streams,
        window_s=window_s,
        limit_s=OPEN_LIMIT_S,
        requests=requests,
    )


def _measured(order: Order) -> dict[str, object]:
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
    return json.loads(client.stdout)
