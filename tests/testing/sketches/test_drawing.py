"""Drawing: what it promises to draw is drawn, and all of it can be built and run."""

from __future__ import annotations

from collections import Counter
from functools import cache

from hypothesis import HealthCheck, given, settings

from orchestra.compiler.check import check
from orchestra.graph.rules.commits import Commit
from tests.testing.sketches.drawing import sketches
from tests.testing.sketches.polls import Agreeing, Judging
from tests.testing.sketches.sketches import (
    BODIES,
    Eaching,
    EachingStream,
    Falling,
    Part,
    Racing,
    Sketch,
    Source,
    Value,
    build,
)

DRAWN: Counter[object] = Counter()
STARVES = "stream-waits-for-its-end"


@cache
def drawn(*, fails: bool) -> tuple[Sketch, ...]:
    """The same each time: what was drawn in them is counted below."""
    found: list[Sketch] = []

    @settings(
        max_examples=400, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(sketches(fails=fails))
    def draw(sketch: Sketch) -> None:
        found.append(sketch)

    draw()
    return tuple(found)


def test_a_sketch_without_failures_has_none() -> None:
    for part in (part for sketch in drawn(fails=False) for part in sketch.parts):
        assert not getattr(part, "fails", False)
        assert getattr(part, "body", "") != "fails"
        if isinstance(part, Value) and part.timeout_s is not None:
            assert part.timeout_s > part.delay_s
        if isinstance(part, Value | Source):
            assert part.flaky.failures < part.flaky.attempts_max
        if isinstance(part, Source):
            for limit_s in filter(None, (part.first_chunk_s, part.idle_s)):
                assert limit_s > max(part.delays_s, default=0)


def test_a_sketch_reads_only_what_is_there_and_streams_only_where_it_may() -> None:
    for sketch in drawn(fails=True):
        for number, part in enumerate(sketch.parts):
            assert all(-1 <= read < number for read in part.reads)


def note(part: Part) -> None:
    """Count what has been drawn."""
    DRAWN[type(part)] += 1
    for name in (
        "fails",
        "plain",
        "ordered",
        "body",
        "empty",
        "stagger_s",
        "picky",
        "catches",
        "restart",
        "loosely",
        "delay_s",
    ):
        value = getattr(part, name, None)
        DRAWN[type(part), name, value if isinstance(value, bool | str) else bool(value)] += 1
    if isinstance(part, Value | Source):
        flaky = part.flaky
        DRAWN[type(part), "flaky", flaky.failures, flaky.failures < flaky.attempts_max] += 1
    if isinstance(part, Racing | Falling):
        DRAWN[type(part.commit)] += 1
    for name in ("timeout_s", "first_chunk_s", "idle_s"):
        DRAWN[name, getattr(part, name, None) is not None] += 1


def test_every_kind_of_part_is_drawn_in_every_way() -> None:
    """A law that is never put to the test holds of anything."""
    for sketch in (*drawn(fails=False), *drawn(fails=True)):
        for part in sketch.parts:
            note(part)
    for kind in Part.__args__:
        assert DRAWN[kind], kind
    for kind in (Value, Source):
        assert DRAWN[kind, "flaky", 0, True]
        assert DRAWN[kind, "flaky", 2, True]
        assert DRAWN[kind, "flaky", 2, False]
    for rule in Commit.__args__:
        assert DRAWN[rule], rule
    for choice in (True, False):
        assert DRAWN[Value, "fails", choice]
        assert DRAWN[Value, "plain", choice]
        assert DRAWN[Source, "fails", choice]
        assert DRAWN[Source, "empty", choice]
        assert DRAWN[Eaching, "ordered", choice]
        assert DRAWN[EachingStream, "ordered", choice]
        assert DRAWN[Racing, "stagger_s", choice]
        assert DRAWN[Racing, "picky", choice]
        assert DRAWN[Falling, "picky", choice]
        assert DRAWN[Falling, "catches", choice]
        assert DRAWN[Falling, "restart", choice]
        assert DRAWN[Agreeing, "loosely", choice]
        assert DRAWN[Agreeing, "stagger_s", choice]
        assert DRAWN[Judging, "delay_s", choice]
        assert DRAWN[Judging, "fails", choice]
        assert all(DRAWN[name, choice] for name in ("timeout_s", "first_chunk_s", "idle_s"))
    assert all(DRAWN[Eaching, "body", body] for body in BODIES)


def test_most_sketches_can_be_run_and_the_others_can_starve() -> None:
    """What is wrong with the others is that a reader waits for the end of what it reads."""
    found = [check(build(sketch)) for sketch in drawn(fails=True)]
    assert {problem.code for problems in found for problem in problems} <= {STARVES}
    assert sum(map(bool, found)) < len(found) / 2
