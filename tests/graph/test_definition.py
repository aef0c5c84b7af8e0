"""A definition keeps the nodes in order, knows what is its own, and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import DefinitionError
from orchestra.graph.definition import Definition, current_definition, defining, in_definition
from orchestra.graph.gather import wire_of
from orchestra.graph.nodes import Constant
from orchestra.graph.wires import Wire, node_of
from tests.graph.written import Written, written


@given(st.lists(st.integers() | st.text(max_size=2), max_size=6))
def test_nodes_are_numbered_in_the_order_in_which_they_are_made(values: list[object]) -> None:
    definition = Definition("test")
    with defining(definition):
        wires = [wire_of(value) for value in values]
    assert [node.origin.number for node in definition.nodes] == list(range(len(values)))
    assert [node_of(wire) for wire in wires] == definition.nodes
    assert [node.value for node in definition.nodes if isinstance(node, Constant)] == values


def test_a_wire_stays_itself_and_a_container_of_plain_values_is_a_value() -> None:
    definition = Definition("test")
    with defining(definition):
        wire = wire_of(3)
        assert wire_of(wire) is wire
        assert isinstance(node_of(wire_of([1, {"a": (2,)}])), Constant)
        assert node_of(wire_of([1, {"a": (wire,)}])).label == "gather"


def test_a_definition_ends_with_its_function_also_when_that_fails() -> None:
    assert not in_definition()
    with pytest.raises(ZeroDivisionError):
        written("@pipeline\ndef p(n: int): return 1 / 0")
    assert not in_definition()
    with pytest.raises(DefinitionError):
        written("@pipeline\ndef p(n: int): return n + 1")
    assert not in_definition()


def test_each_thread_defines_for_itself() -> None:
    seen: list[bool] = []
    with defining(Definition("test")):
        thread = threading.Thread(target=lambda: seen.append(in_definition()))
        thread.start()
        thread.join()
        assert in_definition()
    assert seen == [False]


def test_outside_a_definition_it_says_what_to_write_instead() -> None:
    with pytest.raises(DefinitionError) as caught:
        current_definition("step 'x'", "do something else")
    assert "test_definition.py:" in str(caught.value)
    assert str(caught.value).endswith("step 'x' was called outside a pipeline; do something else")


def test_a_wire_that_is_kept_is_refused_where_it_is_used() -> None:
    kept: list[Any] = []
    with defining(Definition("first")):
        kept.append(wire_of(1))
    second = Definition("second")
    with defining(second), pytest.raises(DefinitionError, match="wire of another pipeline"):
        wire_of([kept[0]])
    assert second.nodes == []


def test_inlined_pipelines_are_left_behind_also_when_they_fail() -> None:
    module = Written(
        """
        seen = []
        @step
        def one(n): return n
        @pipeline
        def inner(n): return one(n)
        @pipeline
        def outer(n):
            try:
                inner(n, 2)
            except Exception as error:
                seen.append(error)
            inner(n)
            return one(n)
        """
    ).run()
    insides = [node.origin.inside for node in module["outer"].nodes if node.label == "one"]
    assert insides == [("inner",), ()]
    assert isinstance(module["outer"].output, Wire)
    assert len(module["seen"]) == 1


def test_a_step_that_trio_is_given_to_run_is_told_at_the_users_line() -> None:
    module = written("""
import trio
@step
async def slept(n: int) -> int: return n
async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slept, 1)  # HERE
""")
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(module["main"])
    (error,) = caught.value.exceptions
    assert str(error).startswith(f"{module.where('HERE')}: step 'slept' was called outside")
