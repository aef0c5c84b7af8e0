"""Strategies: what they promise to draw, they draw; and all of it can be built and run."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from orchestra.compiler.check import check
from orchestra.graph.rules.commits import Commit
from orchestra.graph.rules.policy import Limits
from orchestra.testing.scripts import Gives, Hangs
from orchestra.testing.sketches.polls import Agreeing, Judging
from orchestra.testing.sketches.sketches import (
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
from orchestra.testing.strategies import moments, narrow_limits, sketches, worlds
from orchestra.testing.world import ScriptedModel, World

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


@given(st.data())
def test_worlds_have_what_they_are_given_and_draw_the_rest(data: st.DataObject) -> None:
    base = World(models={"m": ScriptedModel.saying("a")}, steps={"kept": Gives(1)})
    steps = {"drawn": st.just(Hangs())}
    limits = narrow_limits()
    world = data.draw(worlds(world=base, steps=steps, limits=limits, cancels=True))
    assert world.models == base.models
    assert set(world.steps) == {"kept", "drawn"}
    assert world.cancel_at_s is not None
    assert 0 <= world.cancel_at_s <= 8
    assert world.limits.lane_chunks <= 3
    assert data.draw(worlds(world=base)).cancel_at_s is None
    assert data.draw(worlds(world=base)).limits == base.limits


def test_a_run_may_be_cancelled_as_late_as_one_says() -> None:
    late = worlds(cancels=moments(60))
    assert find(late, lambda world: (world.cancel_at_s or 0) > 50).cancel_at_s


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        (
            {"steps": {"a": Gives(1)}},
            r"worlds\(steps={'a': ...}\): Gives\(value=1, .* is not drawn",
        ),
        ({"limits": Limits()}, r"worlds\(limits\): Limits\(.* or st.just\(...\) around it"),
        ({"cancels": 5}, r"worlds\(cancels\): 5 is not drawn"),
        ({"world": st.just(World())}, r"it is a World, whose other fields are kept"),
    ],
)
def test_what_is_not_drawn_is_told_where_it_belongs(given_: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        worlds(**given_)


def test_moments_and_schedules_are_many() -> None:
    seen: set[float] = set()
    schedules: set[int] = set()

    @settings(max_examples=100, database=None)
    @given(moments(2), worlds())
    def draw(moment: float, world: World) -> None:
        assert 0 <= moment <= 2
        seen.add(moment)
        schedules.add(world.schedule)

    draw()
    assert len(seen) > 20
    assert len(schedules) > 20
