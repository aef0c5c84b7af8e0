"""Polls in sketches: quorums and judged answers, and their predicted outcomes.

`ways` gives the outcomes for every order of simultaneous events; if they differ, the schedule
decides.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import permutations
from math import inf
from typing import Any, TypeAlias

import attrs
import trio

from orchestra.graph.control.agreeing import best_of, quorum
from orchestra.graph.steps import step
from tests.testing.sketches.mixing import mix


@attrs.frozen
class Agreeing:
    """A quorum of values."""

    reads: tuple[int, ...]
    count: int
    loosely: bool = False
    """Whether answers agree if they are `alike`, instead of equal."""
    stagger_s: float = 0.0


@attrs.frozen
class Judging:
    """The best of some values: by a plain judge, or by a step that takes `delay_s`."""

    reads: tuple[int, ...]
    least: int = 1
    delay_s: float | None = None
    fails: bool = False


Poll: TypeAlias = Agreeing | Judging


@attrs.frozen
class Heard:
    """The outcome of an arm and its time; a failure has no value."""

    at_s: float
    value: object = None
    fails: bool = False


class JudgingError(Exception):
    """Raised by a judge of a sketch that is told to fail."""


def alike(one: object, other: object) -> bool:
    """Whether two answers of a sketch agree loosely."""
    return mix(one) % 2 == mix(other) % 2


def best(values: Sequence[object]) -> int:
    """The index of the answer that the judge of a sketch prefers."""
    return mix(*values) % len(values)


def wire_of_poll(part: Poll, reads: list[Any]) -> object:
    """The wire of the part in a pipeline."""
    if isinstance(part, Agreeing):
        agree = alike if part.loosely else operator.eq
        return quorum(part.count, *reads, agree=agree, stagger_s=part.stagger_s)
    if part.delay_s is None:
        return best_of(*reads, judge=_fails if part.fails else best, least=part.least)
    judge = partial(_slowly, delay_s=part.delay_s, fails=part.fails)
    return best_of(*reads, judge=judge, least=part.least)


def _fails(values: list[Any]) -> int:
    raise JudgingError(f"told to fail, with {len(values)} answers")


@step(name="judge")
async def _slowly(values: list[Any], *, delay_s: float, fails: bool) -> int:
    await trio.sleep(delay_s)
    return _fails(values) if fails else best(values)


def next_starts(part: Poll, arms: Sequence[Heard], due_s: float) -> set[float]:
    """Possible start times of the next arm, if the last of these was due then; infinity: never."""
    if not isinstance(part, Agreeing) or not part.stagger_s or len(arms) < part.count:
        return {due_s}
    idle = [Heard(inf)] * (len(part.reads) - len(arms))
    found: set[float] = set()
    for without in ways(part, arms):
        for decided in ways(part, [*arms, *idle]):
            needed_s = max(due_s, without.at_s) if without.fails else inf
            next_s = min(due_s + part.stagger_s, needed_s)
            found.add(next_s if decided.at_s > next_s else inf)
            if decided.at_s == due_s + part.stagger_s:
                found.add(next_s)
    return found


def ways(part: Poll, arms: Sequence[Heard]) -> Iterator[Heard]:
    """The possible outcomes of a poll of these arms; at infinity, it never ends."""
    for order in permutations(range(len(arms))):
        times = [arms[arm].at_s for arm in order]
        if times == sorted(times):
            yield _agreed(part, arms, order) if isinstance(part, Agreeing) else _judged(part, arms)


def _agreed(part: Agreeing, arms: Sequence[Heard], order: Sequence[int]) -> Heard:
    same = alike if part.loosely else operator.eq
    sizes: Counter[int] = Counter()
    for done, arm in enumerate(order, 1):
        heard = arms[arm]
        if heard.at_s == inf:
            break
        if not heard.fails:
            first = next((one for one in sizes if same(arms[one].value, heard.value)), arm)
            sizes[first] += 1
            if sizes[first] == part.count:
                return Heard(heard.at_s, arms[first].value)
        if max(sizes.values(), default=0) + len(arms) - done < part.count:
            return Heard(heard.at_s, fails=True)
    return Heard(inf)


def _judged(part: Judging, arms: Sequence[Heard]) -> Heard:
    failures = sorted(heard.at_s for heard in arms if heard.fails and heard.at_s < inf)
    spare = len(arms) - part.least
    if len(failures) > spare:
        return Heard(failures[spare], fails=True)
    at_s = max(heard.at_s for heard in arms) + (part.delay_s or 0.0)
    left = [heard.value for heard in arms if not heard.fails]
    if at_s == inf or part.fails:
        return Heard(at_s, fails=at_s < inf)
    return Heard(at_s, left[best(left)])
