"""Tools whose schema comes from elsewhere: arguments go through as they are, and no others do."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Stream, injected, pipeline
from orchestra.errors import DefinitionError
from orchestra.steps import generate, tool
from orchestra.steps.conversation.tools import as_tools
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall, ToolResult
from tests.steps.conversation.test_calling import CONTEXT, answers

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "self": {"oneOf": [{"type": "null"}]}},
    "required": ["name"],
}


async def call_shop(client: str, remote: str, /, **arguments: Any) -> dict[str, Any]:
    """Not what the model is told."""
    return {"client": client, "remote": remote, "arguments": arguments}


PRICE = tool(name="price", description="The price.", parameters=SCHEMA)(
    partial(call_shop, "c", "shop.price")
)
"""All names are free for the model, since the function's own parameters are positional-only."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)
argument_names = st.text() | st.sampled_from(["name", "client", "remote", "self", "context"])


def answered(function: Any, arguments: Any, *, is_error: bool = False) -> Any:
    """What a call of the tool `price` with these arguments gives."""
    (result,) = answers([function], ("price", json.dumps(arguments)))
    assert isinstance(result.content, str)
    assert result.is_error == is_error, result.content
    return result.content if is_error else json.loads(result.content)


def test_the_model_is_told_the_schema_as_it_is() -> None:
    assert PRICE.declaration.parameters == SCHEMA
    assert (PRICE.declaration.name, PRICE.declaration.description) == ("price", "The price.")


@given(st.dictionaries(argument_names, json_values, max_size=5))
def test_any_arguments_go_through_as_they_are(arguments: dict[str, Any]) -> None:
    result = answered(PRICE, arguments)
    assert result == {"client": "c", "remote": "shop.price", "arguments": arguments}


def test_a_model_can_neither_change_a_bound_argument_nor_the_context() -> None:
    async def of_user(*, context: Context = injected, **arguments: Any) -> list[object]:
        return [context, arguments]

    called = tool(name="price", parameters=SCHEMA)(partial(of_user, user="ada"))
    assert answered(called, {"name": "tea"}) == [CONTEXT, {"user": "ada", "name": "tea"}]
    for hidden in ("user", "context"):
        told = answered(called, {"name": "tea", hidden: "eve"}, is_error=True)
        assert told == f"the arguments of price do not fit: there is no {hidden!r}"


def test_a_partial_of_such_a_tool_keeps_its_schema_and_hides_what_it_binds() -> None:
    async def of_user(**arguments: Any) -> dict[str, Any]:
        return arguments

    bare = tool(name="price", parameters=SCHEMA)(of_user)
    (bound,) = as_tools([partial(bare, user="ada")])
    assert bound.declaration == bare.declaration
    assert answered(bound, {"name": "tea"}) == {"user": "ada", "name": "tea"}
    assert "there is no 'user'" in answered(bound, {"user": "eve"}, is_error=True)


def test_a_value_of_the_run_is_bound_as_to_any_tool() -> None:
    @tool(name="price", parameters=SCHEMA)
    async def price(**arguments: Any) -> dict[str, Any]:
        return arguments

    @pipeline
    def asked(question: str, user: str) -> Stream[str]:
        return generate(question, tools=[partial(price, user=user)])

    model = ScriptedTurns.saying(ToolCall("1", "price", '{"name": "tea"}'), "Three.")
    run = simulate(asked, World(models={"default": model}), question="How much?", user="ada")
    assert run.value == "Three."
    (part,) = model.asked[1].messages[-1].parts
    assert isinstance(part, ToolResult)
    assert part.content == '{"user":"ada","name":"tea"}'


async def typed(name: str) -> str:
    return name


async def beside(client: str, **arguments: Any) -> str:
    return f"{client} {arguments}"


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        (typed, SCHEMA, r"takes \(name\)"),
        (beside, SCHEMA, r"takes \(client, \*\*arguments\)"),
        (lambda: "", SCHEMA, "a lambda in tools has no name"),
        (PRICE, [], r"its parameters=\[\] are not the JSON Schema of an object"),
        (PRICE, {"type": "string"}, "are not the JSON Schema of an object"),
        (PRICE, {}, r'write parameters=\{"type": "object"'),
        (PRICE, {"type": "object", "x": object()}, "cannot be sent as JSON"),
        (partial(beside, client="c"), {"type": "object", "properties": {"client": {}}}, "'client'"),
    ],
)
def test_what_could_not_be_called_is_refused(function: Any, parameters: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        tool(parameters=parameters)(function)
