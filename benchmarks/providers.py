"""The cost of a model over the network: of a streamed chunk, and of a request.

A fake provider in a process of its own streams OpenAI chat completions; each contender reads
them on Trio, to the pieces of text. A figure is the CPU time of the client's process, the
user's and the kernel's. Of a request it is all of it, with its TCP connection; of a chunk that
comes alone, what is left once all streams have begun.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Chunks in bursts and alone; requests at 200, 2,000 and 4,000 streams at once."""
    burst, streams, alone = (1_000, 50, 20) if quick else (5_000, 200, 100)
    few, many, most = (20, 50, 100) if quick else (200, 2_000, 4_000)
    rounds = 1 if quick else 5
    paced = f"paced/{streams}/{alone}/{EVERY_S}"
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
            rounds=1 if quick else 3,
            contenders=_each(
                paced,
                streams,
                alone + 1,
                streams * alone,
                opened=True,
                contenders=("orchestra", "trio", "httpx", "openai"),
            ),
            target=ALONE_TARGET_US,
        ),
        _requests(few, rounds, discarded=1),
        _requests(many, 1 if quick else 3, discarded=0),
        _requests(most, 1 if quick else 2, discarded=0, contenders=("orchestra", "httpx")),
    ]


def _requests(
    streams: int, rounds: int, *, discarded: int, contenders: Sequence[str] = CONTENDERS
) -> Experiment:
    # The openai SDK, on the stock pool too, needs a minute for 4,000.
    return Experiment(
        name=f"model-requests-{streams}",
        question=f"a request to a model, {streams:,} streams of {HELD_CHUNKS} chunks at once",
        unit="us per request",
        rounds=rounds,
        discarded=discarded,
        contenders=_each(f"held/{streams}", streams, HELD_CHUNKS, streams, contenders=contenders),
        target=REQUEST_TARGET_US,
    )


def _each(
    path: str,
    streams: int,
    texts: int,
    count: int,
    *,
    opened: bool = False,
    contenders: Sequence[str] = CONTENDERS,
) -> dict[str, Contender]:
    """A sample of each contender: at that path so many streams of so many texts, over `count`."""

    def contender(name: str) -> Contender:
        def sample() -> Reading:
            # Imported late: a peer that is missing is reported by name and stops nobody.
            asking = import_module(f"benchmarks.contenders.{name}_models").asking
            with served(("-m", "benchmarks.servers.upstream")) as server:
                base_url = f"http://127.0.0.1:{server.port}/{path}/v1"
                return per_us(taken(asking, base_url, streams, texts, opened=opened), count)

        return sample

    return {name: contender(name) for name in contenders}
