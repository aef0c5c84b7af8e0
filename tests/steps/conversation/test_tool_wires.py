"""Tools that need values of the run: given by `partial` they are edges, anywhere else refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from orchestra import Context, Pipeline, Stream, injected, pipeline, prompt, step
from orchestra.compiler.check import check
from orchestra.compiler.draw import as_text
from orchestra.errors import DefinitionError
from orchestra.steps import generate
from orchestra.steps.conversation.tools import tool
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall


def orders(status: str, user: str, most: int = 3, context: Context = injected) -> str:
    """The orders of a user.

    Args:
        status: Which of them.
        user: Whose.
    """
    assert context.step == "generate"
    return f"{most} {status} of {user}"


@step
async def shouted(text: str) -> str:
    """Upper case."""
    return text.upper()


@pipeline
def named(question: str, user: str) -> Stream[str]:
    """By name."""
    return generate(question, tools=[partial(orders, user=user)])


@pipeline
def placed(question: str, user: str) -> Stream[str]:
    """By position, and a constant beside it."""
    return generate(question, tools=[partial(orders, "open", shouted(user), most=7)])


CALL = ToolCall("1", "orders", '{"status": "open"}')


def asked(made: Pipeline[..., Any], *calls: ToolCall, user: str = "ada") -> tuple[Any, list[str]]:
    """The tool that the model is told of, and the results that it is given."""
    model = ScriptedTurns.saying(list(calls), "done")
    run = simulate(made, World(models={"default": model}), question="?", user=user)
    assert run.value == "done"
    (told,) = model.asked[0].tools
    return told, [part.content for part in model.asked[1].messages[-1].parts]  # type: ignore[union-attr]


def test_a_wire_in_a_partial_is_filled_for_each_run_and_hidden_from_the_model() -> None:
    assert check(named) == ()
    for user in ("ada", "bob"):
        assert asked(named, CALL, user=user)[1] == [f"3 open of {user}"]
    told, _ = asked(named, CALL)
    assert told.name == "orders"
    assert told.description == "The orders of a user."
    assert told.parameters["properties"] == {
        "status": {"description": "Which of them.", "type": "string"},
        "most": {"type": "integer", "default": 3},
    }
    assert told.parameters["required"] == ["status"]


def test_a_model_cannot_change_what_is_given() -> None:
    wrong = ToolCall("1", "orders", '{"status": "open", "user": "eve"}')
    (result,) = asked(named, wrong)[1]
    assert "`user`: is unknown" in result


def test_wires_by_position_and_constants_are_given_too() -> None:
    told, results = asked(placed, ToolCall("1", "orders", "{}"))
    assert results == ["7 open of ADA"]
    assert told.parameters["properties"] == {}


def test_a_wire_in_a_tool_is_an_edge_of_the_step() -> None:
    assert "generate(asked ── question, tools ── shouted)" in as_text(placed)


@step
def number(text: str) -> int:
    """A number."""
    return len(text)


@pipeline
def clashing(question: str) -> Stream[str]:
    """The user is no number."""
    return generate(question, tools=[partial(orders, user=number(question))])  # type: ignore[arg-type]


def test_a_wire_in_a_tool_is_checked_against_its_parameter() -> None:
    (problem,) = check(clashing)
    assert problem.code == "type-clash"
    assert "generate(tools=...) takes str" in problem.message


@attrs.frozen
class Desk:
    """An object whose method is a tool."""

    who: Any

    def note(self, text: str) -> str:
        """Note."""
        return f"{self.who}{text}"


def defined(make: Callable[[Any], Any]) -> Pipeline[..., Any]:
    """A pipeline whose one tool is made of its input."""

    @pipeline
    def made(question: str, user: str) -> Stream[str]:
        return generate(question, tools=[make(user)])

    return made


def closing(user: Any) -> Any:
    def note(text: str) -> str:
        return f"{user}{text}"

    return note


def deep(user: Any) -> Any:
    def helper() -> str:
        return f"{[user]}"

    def note(text: str) -> str:
        return helper() + text

    return tool(note)


def by_default(user: Any) -> Any:
    def note(text: str, *, user: str = user) -> str:
        return user + text

    return note


def in_a_table(user: Any) -> Any:
    table = {"user": (user,)}

    def note(text: str) -> str:
        return f"{table}{text}"

    return partial(note)


def declared_later(user: Any) -> Any:
    def note(text: str) -> str:
        return later + text

    if not isinstance(user, object):
        later = ""
    return note


@pytest.mark.parametrize(
    "make", [closing, deep, by_default, in_a_table, lambda user: Desk(user).note]
)
def test_a_wire_anywhere_else_in_a_tool_is_refused_with_the_way_in(make: Any) -> None:
    message = (
        r"test_tool_wires\.py:\d+: tool 'note' holds the wire user, .*"
        r"tools=\[partial\(note, user=user\)\], with `def note\(\.\.\., user: \.\.\.\)`"
    )
    with pytest.raises(DefinitionError, match=message):
        defined(make)


def test_a_closure_without_a_value_holds_no_wire() -> None:
    assert check(defined(declared_later))[0].code == "unused-input"


def test_a_named_tool_of_a_partial_and_a_partial_of_a_tool_are_the_same() -> None:
    of_partial = defined(lambda user: tool(name="mine")(partial(orders, user=user)))
    of_tool = defined(lambda user: partial(tool(name="mine", description="M")(orders), user=user))
    call = ToolCall("1", "mine", '{"status": "open"}')
    assert asked(of_partial, call)[1] == asked(of_tool, call)[1] == ["3 open of ada"]
    assert asked(of_tool, call)[0].description == "M"
    assert of_tool.nodes[-1].arguments["tools"][0].func.__wrapped__  # type: ignore[attr-defined]


@step
async def shelf(word: str, user: str) -> str:
    """A step that is a tool as well."""
    return f"{word} of {user}"


@step
@tool(name="shelf_of", description="S")
async def both(word: str, user: str) -> str:
    """Both."""
    return f"{word} of {user}"


def test_a_step_takes_a_wire_as_well() -> None:
    found = asked(
        defined(lambda user: partial(shelf, user=user)), ToolCall("1", "shelf", '{"word": "b"}')
    )
    assert found[1] == ["b of ada"]
    told, results = asked(
        defined(lambda user: partial(both, user=prompt("{user}!", user=user))),
        ToolCall("1", "shelf_of", '{"word": "b"}'),
    )
    assert results == ["b of ada!"]
    assert told.description == "S"


def test_what_a_partial_gives_wrongly_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"tool 'orders' is functools\.partial.*usr"):
        defined(lambda user: partial(orders, usr=user))  # type: ignore[call-arg]
