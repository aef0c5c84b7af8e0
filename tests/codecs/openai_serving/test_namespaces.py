"""Tools that a client of the responses API groups, as Codex does with those of an MCP server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from orchestra.answers import Completion
from orchestra.codecs.openai_serving.responses import ResponseWriter
from orchestra.codecs.openai_serving.responses_record import ResponseHead, response_record
from orchestra.codecs.openai_serving.responses_request import (
    AskedResponse,
    asked_response,
    served_response,
)
from orchestra.errors import InvalidRequestError
from orchestra.values import Began, Json, ModelEvent, Stopped, StopReason, Tool, ToolCallDelta

NOTHING: Json = {"type": "object", "properties": {}}


def asked(*inner: Json) -> AskedResponse:
    """Codex 0.171.0: functions of its own, and a namespace of others."""
    group = {"type": "namespace", "name": "mcp__n", "description": "d", "tools": inner}
    tools = [{"type": "function", "name": "shell", "strict": False, "parameters": NOTHING}, group]
    return asked_response(json.dumps({"model": "m", "input": "Hi", "tools": tools}).encode())


def function(name: str) -> Json:
    return {"type": "function", "name": name, "description": "f", "parameters": NOTHING}


def test_its_functions_are_tools_as_others_are() -> None:
    request = asked(function("a"), function("b"))
    tools = served_response(request, request.items()).request.tools
    assert tools == (Tool("shell", "", NOTHING), Tool("a", "f", NOTHING), Tool("b", "f", NOTHING))
    alone = asked(function("mcp__n"))  # it may be called as one of its functions is
    assert served_response(alone, alone.items()).request.tools[1] == Tool("mcp__n", "f", NOTHING)


@given(st.lists(st.sampled_from(["shell", "a", "b", "unknown"]), max_size=4))
def test_a_call_of_one_says_which_it_is_of_streamed_and_whole(names: list[str]) -> None:
    head = ResponseHead("r", "m", 5, asked(function("a"), function("b")).echo(), {})
    calls = [ToolCallDelta(at, f"c{at}", name) for at, name in enumerate(names)]
    events: list[ModelEvent] = [Began("", ""), *calls, Stopped(StopReason.TOOL_CALLS)]
    writer, whole = ResponseWriter(head), response_record(Completion.of(events), head)
    raw = writer.write(events) + writer.close()
    told = [json.loads(each[6:]) for each in raw.decode().splitlines() if each[:6] == "data: "]
    of = ["mcp__n" if name in ("a", "b") else None for name in names]
    assert writer.record == whole
    assert [each.get("namespace") for each in whole["output"]] == of
    for kind in ("response.output_item.added", "response.output_item.done"):
        items = [each["item"] for each in told if each["type"] == kind]
        assert [each.get("namespace") for each in items] == of
    Response.model_validate(whole)


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ([function("shell")], r"tools\[1\].tools\[0\].name: there is another tool 'shell'"),
        ([function("a"), function("a")], r"tools\[1\].tools\[1\].name: there is another tool 'a'"),
        ([{"type": "custom", "name": "a"}], r"tools\[1\].tools\[0\].type: custom tools are not"),
    ],
)
def test_what_could_not_be_told_apart_or_called_is_refused(inner: list[Json], why: str) -> None:
    request = asked(*inner)
    with pytest.raises(InvalidRequestError, match=why):
        served_response(request, request.items())
