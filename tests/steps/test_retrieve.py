"""`retrieve` and `nearest`: how many passages may be asked for."""

from __future__ import annotations

import pytest

from orchestra import pipeline
from orchestra.errors import InputError
from orchestra.graph.pipelines import Pipeline
from orchestra.steps import nearest, retrieve
from orchestra.stores.memory import MemoryStore
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from orchestra.values import Passage, Vector


@pipeline
def in_a_store(count: int) -> list[Passage]:
    return retrieve(Vector.of([1.0]), store="notes", top=count)


@pipeline
def in_a_list(count: int) -> list[Passage]:
    return nearest([Passage("1", "A note.")], "What?", top=count)


@pytest.mark.parametrize(
    ("asking", "says"), [(in_a_store, "retrieve(top={})"), (in_a_list, "nearest(top={})")]
)
@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_passage_is_an_error(
    asking: Pipeline[[int], list[Passage]], says: str, count: int
) -> None:
    world = World(stores={"notes": MemoryStore("notes")}, embedders={"default": None})
    error = simulate(asking, world, count).error
    assert isinstance(error, InputError)
    assert str(error) == f"{says.format(count)}: it has to be 1 or more"
