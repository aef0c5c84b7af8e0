"""The cost of a step that does nothing, which is that of the framework around it.

Two shapes of ten steps: a diamond (1 -> 8 -> 1) and a chain. Every contender builds
its graph before the clock starts, checks its result, and then runs it again and
again; a figure is CPU time divided by runs and by steps.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.measure import Contender, Experiment, Reading
from benchmarks.stopwatch import per_us

STEPS = 10
CONTENDERS = ("orchestra", "trio", "langgraph", "lcel")
TARGETS_US = {"diamond": 30.0, "chain": None}
QUESTIONS = {
    "diamond": "a step of a diamond of ten, 1 -> 8 -> 1",
    "chain": "a step of a chain of ten",
}


def experiments(*, quick: bool) -> list[Experiment]:
    """The two shapes; a sample is 200 runs, that is 10 to 300 ms."""
    runs, rounds = (20, 3) if quick else (200, 11)
    return [
        Experiment(
            name=shape,
            question=question,
            unit="us per step",
            rounds=rounds,
            contenders={name: _contender(name, shape, runs) for name in CONTENDERS},
            target=TARGETS_US[shape],
        )
        for shape, question in QUESTIONS.items()
    ]


def _contender(name: str, shape: str, runs: int) -> Contender:
    def sample() -> Reading:
        # Imported late: a peer that is missing is reported by name and stops nobody.
        measured = getattr(import_module(f"benchmarks.contenders.{name}_shapes"), shape)
        return per_us(measured(runs), runs * STEPS)

    return sample
