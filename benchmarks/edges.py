"""What a chunk costs on a stream edge, and whether the thousandth costs what the first did.

A source, three steps that pass each chunk on, and a step that counts: four edges. A
figure is wall time divided by chunks and by edges; the linearity is the figure at the
most chunks divided by the figure at the fewest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.measure import Contender, Experiment, Outcome, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

EDGES = 4
CONTENDERS = ("orchestra", "trio", "lcel")
SIZES = {1_000: 9, 5_000: 5, 50_000: 3}
"""Chunks to rounds: a sample of 50,000 takes seconds."""
TARGET_US = 10.0


def experiments(*, quick: bool) -> list[Experiment]:
    """One experiment for each number of chunks, and one for a stream that leaves the run."""
    sizes = {100: 2, 1_000: 2} if quick else SIZES
    inside = [
        Experiment(
            name=f"edge-{chunks}",
            question=f"a chunk on a stream edge, {chunks:,} chunks over {EDGES} edges",
            unit="us per chunk per edge",
            rounds=rounds,
            contenders={name: _contender(name, "relay", chunks, EDGES) for name in CONTENDERS},
            target=TARGET_US,
        )
        for chunks, rounds in sizes.items()
    ]
    chunks = 500 if quick else 5_000
    output = Experiment(
        name="output",
        question=f"a chunk of a run's output, {chunks:,} of them from a step to a reader outside",
        unit="us per chunk",
        rounds=2 if quick else 5,
        contenders={name: _contender(name, "output", chunks, 1) for name in CONTENDERS},
    )
    return [*inside, output]


def linearity(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """For each contender, the cost of a chunk at the most chunks over that at the fewest."""
    edges = [outcome for outcome in outcomes if outcome.experiment.name.startswith("edge-")]
    if len(edges) < 2:  # noqa: PLR2004 - a ratio has two ends
        return {}
    few, many = edges[0].figures, edges[-1].figures
    both = [name for name in few if name in many]
    return {name: round(many[name].spread.median / few[name].spread.median, 3) for name in both}


def _contender(name: str, measured: str, chunks: int, edges: int) -> Contender:
    def sample() -> Reading:
        # Imported late: a peer that is missing is reported by name and stops nobody.
        module = import_module(f"benchmarks.contenders.{name}_streams")
        return Reading(getattr(module, measured)(chunks) / chunks / edges * 1e6)

    return sample
