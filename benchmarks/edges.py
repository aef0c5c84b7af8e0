"""The cost of a chunk on a stream edge, and whether it grows with the number of chunks.

A source, three steps that pass each chunk on, and a step that counts: four edges. A
figure is CPU time divided by chunks and by edges. `edge-N` is a source that is always
ready, so that chunks may move together; in `edge-alone` each chunk is on its own, as a
model's tokens are, and wakes every step by itself; `output` is what leaves the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from benchmarks.measure import Contender, Experiment, Outcome, Reading
from benchmarks.stopwatch import per_us

EDGES = 4
CONTENDERS = ("orchestra", "trio", "lcel")
SIZES = {1_000: 9, 5_000: 5, 50_000: 3}
"""Chunks to rounds: a sample of 50,000 takes seconds."""
TARGET_US = 10.0
_RELAY = "edge-"


def experiments(*, quick: bool) -> list[Experiment]:
    """One experiment for each number of chunks, then chunks alone, then a run's output."""
    sizes = {100: 2, 1_000: 2} if quick else SIZES
    chunks, rounds = (500, 2) if quick else (5_000, 5)
    relays = [
        _experiment(f"{_RELAY}{size}", "relay", size, turns, "a chunk on a stream edge")
        for size, turns in sizes.items()
    ]
    alone = "a chunk on a stream edge where no other is ready"
    output = "a chunk of a run's output, from a step to a reader outside"
    return [
        *relays,
        _experiment("edge-alone", "alone", chunks, rounds, alone),
        _experiment("output", "output", chunks, rounds, output, edges=1),
    ]


def linearity(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """For each contender, the cost of a chunk at the most chunks over that at the fewest.

    Of the best samples: the sizes are measured one after the other, not in turns. Empty
    where fewer than two sizes were measured.
    """
    sizes = {
        int(outcome.experiment.name.removeprefix(_RELAY)): outcome.figures
        for outcome in outcomes
        if outcome.experiment.name.removeprefix(_RELAY).isdecimal()
    }
    if not sizes:
        return {}
    few, many = sizes[min(sizes)], sizes[max(sizes)]
    both = [name for name in few if name in many and few is not many]
    return {name: many[name].spread.best / few[name].spread.best for name in both}


def _experiment(
    name: str, measured: str, chunks: int, rounds: int, question: str, *, edges: int = EDGES
) -> Experiment:
    return Experiment(
        name=name,
        question=f"{question}, {chunks:,} chunks",
        unit="us per chunk" if edges == 1 else "us per chunk per edge",
        rounds=rounds,
        contenders={peer: _contender(peer, measured, chunks, edges) for peer in CONTENDERS},
        target=None if edges == 1 else TARGET_US,
    )


def _contender(name: str, measured: str, chunks: int, edges: int) -> Contender:
    def sample() -> Reading:
        # Imported late: a peer that is missing is reported by name and stops nobody.
        module = import_module(f"benchmarks.contenders.{name}_streams")
        return per_us(getattr(module, measured)(chunks), chunks * edges)

    return sample
