"""What a model costs that is reached over the network: a streamed chunk, and a request.

A fake provider in a process of its own streams OpenAI chat completions; each contender reads
them on Trio, to the pieces of text. A figure is the CPU time of the client's process, the
user's and the kernel's. TCP connections are opened within it, as they are where many streams
begin at once; the chunks' experiments divide that by the chunks, where it is nothing.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from benchmarks.contenders.models import taken
from benchmarks.measure import Contender, Experiment, Reading
from benchmarks.servers.process import served
from benchmarks.servers.upstream import HELD_CHUNKS
from benchmarks.stopwatch import per_us

CONTENDERS = ("orchestra", "httpx", "openai")
BURST_TARGET_US = 12.0
ALONE_TARGET_US = 45.0
REQUEST_TARGET_US = 1_000.0
EVERY_S = 0.02
"""From one chunk of a stream to the next: fifty tokens a second."""


def experiments(*, quick: bool) -> list[Experiment]:
    """Chunks in bursts and alone; requests at 200 and at 2,000 streams at once."""
    burst, streams, alone = (1_000, 10, 20) if quick else (5_000, 50, 100)
    few, many = (20, 50) if quick else (200, 2_000)
    rounds = 1 if quick else 5
    return [
        Experiment(
            name="model-burst",
            question=f"a streamed chunk of a model, {burst:,} as fast as they can be read",
            unit="us per chunk",
            rounds=rounds,
            contenders=_each(f"burst/{burst}", 1, burst, burst),
            target=BURST_TARGET_US,
        ),
        Experiment(
            name="model-alone",
            question=f"a streamed chunk of a model that comes alone, {streams} streams",
            unit="us per chunk",
            rounds=rounds,
            contenders=_each(f"paced/{alone}/{EVERY_S}", streams, alone, streams * alone),
            target=ALONE_TARGET_US,
        ),
        _requests(few, rounds, discarded=1),
        _requests(many, 1 if quick else 3, discarded=0),
    ]


def _requests(streams: int, rounds: int, *, discarded: int) -> Experiment:
    return Experiment(
        name=f"model-requests-{streams}",
        question=f"a request to a model, {streams:,} streams of {HELD_CHUNKS} chunks at once",
        unit="us per request",
        rounds=rounds,
        discarded=discarded,
        contenders=_each(f"held/{streams}", streams, HELD_CHUNKS, streams),
        target=REQUEST_TARGET_US,
    )


def _each(path: str, streams: int, texts: int, count: int) -> dict[str, Contender]:
    return {name: partial(_sample, name, path, streams, texts, count) for name in CONTENDERS}


def _sample(name: str, path: str, streams: int, texts: int, count: int) -> Reading:
    # Imported late: a peer that is missing is reported by name and stops nobody.
    asking = import_module(f"benchmarks.contenders.{name}_models").asking
    with served(("-m", "benchmarks.servers.upstream")) as server:
        base_url = f"http://127.0.0.1:{server.port}/{path}/v1"
        return per_us(taken(asking, base_url, streams, texts), count)
