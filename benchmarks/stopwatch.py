"""Measures code that never waits, in wall time and in CPU time.

The figure is the CPU time, because a neighbour on the machine cannot lengthen it by
running in between; on a quiet machine the two agree, and both are published.
"""

from __future__ import annotations

from time import perf_counter, process_time

import attrs

from benchmarks.measure import Reading


@attrs.frozen
class Taken:
    """A duration."""

    wall_s: float
    cpu_s: float
    """CPU time of the whole process, all its threads."""


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall_s = perf_counter()
        self._cpu_s = process_time()

    def taken(self) -> Taken:
        """How long it has run."""
        return Taken(perf_counter() - self._wall_s, process_time() - self._cpu_s)


def per_us(taken: Taken, count: int) -> Reading:
    """The CPU time of one of so many, in microseconds, with the wall time beside it."""
    return Reading(taken.cpu_s / count * 1e6, {"by the wall": taken.wall_s / count * 1e6})
