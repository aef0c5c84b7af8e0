"""The method of measuring: contenders take turns, and the median and its spread are reported.

The machine drifts while we measure (neighbours, heat, page cache). So no contender
is measured in one block: they take turns, each round begins with the next one, and
a ratio compares the two samples of the *same* round before the median is taken.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import attrs


@attrs.frozen
class Reading:
    """One sample: the measured value, and what else was seen while measuring it."""

    value: float
    seen: Mapping[str, float] = attrs.field(factory=dict)


Contender: TypeAlias = Callable[[], Reading]
"""Takes one sample. Raises ImportError if the peer is not installed."""


@attrs.frozen
class Experiment:
    """One question, asked of several contenders; ours is called `orchestra`.

    `target` is the most that `orchestra` may need, in `unit`; None where nothing was
    promised. Every experiment measures a cost: less is better.
    """

    name: str
    question: str
    unit: str
    rounds: int
    contenders: Mapping[str, Contender]
    target: float | None = None
    discarded: int = 1
    """Rounds before those, thrown away: what is imported and compiled once is not the cost."""


@attrs.frozen
class Spread:
    """The middle of some samples, and how far apart they lie."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""
    best: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of at least one sample."""
        low, median, high = _quartiles(samples)
        return cls(median, low, high, min(samples), len(samples))


@attrs.frozen
class Figure:
    """What one contender was measured to need, beside ours in the same rounds."""

    spread: Spread
    ratio: Spread | None
    """Ours divided by this one, round by round; under 1 we are better. None for ours."""
    seen: Mapping[str, float]
    """The medians of what else was seen."""


@attrs.frozen
class Outcome:
    """What an experiment found; `absent` says why a contender has no figure."""

    experiment: Experiment
    figures: Mapping[str, Figure]
    absent: Mapping[str, str]

    @property
    def met(self) -> bool | None:
        """Whether ours keeps its target; None where there is none, or no figure."""
        ours = self.figures.get(OURS)
        if ours is None or self.experiment.target is None:
            return None
        return ours.spread.median <= self.experiment.target


OURS = "orchestra"


def perform(experiment: Experiment) -> Outcome:
    """Take all samples of an experiment, in turns.

    A contender that raises, in whatever turn, is left out and its error is kept: a figure
    of those turns only that went well would be half a truth.
    """
    absent: dict[str, str] = {}
    readings: dict[str, list[Reading]] = {name: [] for name in experiment.contenders}
    for turn in range(experiment.discarded + experiment.rounds):
        for name in rotated(list(readings), turn):
            gc.collect()  # nobody pays for the one before
            try:
                readings[name].append(experiment.contenders[name]())
            except Exception as error:  # noqa: BLE001 - it is reported, and the others go on
                absent[name] = innermost(error)
                del readings[name]
    kept = {name: found[experiment.discarded :] for name, found in readings.items()}
    return Outcome(experiment, compare(kept), absent)


def compare(readings: Mapping[str, Sequence[Reading]]) -> dict[str, Figure]:
    """The figures of contenders that were sampled in the same rounds."""
    ours = [reading.value for reading in readings.get(OURS, ())]
    return {name: _figure(name, found, ours) for name, found in readings.items()}


def innermost(error: BaseException) -> str:
    """An error in one line; of a nursery's group, the first that is in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".strip()


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The names, beginning with another one each turn: ABC, BCA, CAB, ABC."""
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _figure(name: str, found: Sequence[Reading], ours: Sequence[float]) -> Figure:
    values = [reading.value for reading in found]
    pairs = zip(ours, values, strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]  # who has lost nothing has none
    seen = {key: statistics.median(reading.seen[key] for reading in found) for key in found[0].seen}
    return Figure(Spread.of(values), Spread.of(ratios) if ratios and name != OURS else None, seen)


def _quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high
