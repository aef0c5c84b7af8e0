"""Strategies: what they promise to draw, they draw."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from orchestra.graph.rules.policy import Limits
from orchestra.testing.scripts import Gives, Hangs
from orchestra.testing.strategies import moments, narrow_limits, worlds
from orchestra.testing.world import ScriptedModel, World


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
            r"worlds\(steps={'a': ...}\): Gives\(value=1, .* is not a strategy",
        ),
        ({"limits": Limits()}, r"worlds\(limits\): Limits\(.* wrap it in st.just\(...\)"),
        ({"cancels": 5}, r"worlds\(cancels\): 5 is not a strategy"),
        ({"world": st.just(World())}, r"it must be a World, whose other fields are kept"),
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
