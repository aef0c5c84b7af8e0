"""Reasoning, refusals and calls, as OpenAI-shaped servers stream them."""

from __future__ import annotations

import pytest

from orchestra.codecs.quirks import GENERIC, OPENAI, Quirks
from orchestra.values import (
    Json,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from tests.codecs.openai_streams import chunk, decode, said, stream


def test_reasoning_is_found_wherever_servers_put_it() -> None:
    parts = [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "Hm, "}, {"type": "text", "text": "so."}],
        },
        {"type": "text", "text": "Yes"},
        {"type": "reference", "reference_ids": [1]},
    ]
    expected = [ReasoningDelta("Hm, so."), TextDelta("Yes")]
    for delta in (
        {"reasoning_content": "Hm, so.", "content": "Yes"},
        {"reasoning": "Hm, so.", "content": "Yes"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm, so."}], "content": "Yes"},
        {"reasoning": "Hm, so.", "reasoning_details": [{"text": "Hm, so."}], "content": "Yes"},
        {"content": parts},
        {"content": [{"type": "thinking", "thinking": "Hm, so."}, parts[1]]},
    ):
        assert decode([stream(chunk(delta, "stop"))])[1:-1] == expected


def test_a_refusal_is_not_the_answer() -> None:
    events = decode([stream(chunk({"refusal": "I "}), chunk({"refusal": "won't"}, "stop"))])
    assert events[1:-1] == [RefusalDelta("I "), RefusalDelta("won't")]
    listed = said(chunk({"content": [{"type": "refusal", "refusal": "No"}]}, "stop"))
    assert (listed.refusal, listed.text) == ("No", "")


def piece(index: int | None, id_: str | None, name: str | None, arguments: object) -> Json:
    call: Json = {"function": {"name": name, "arguments": arguments}}
    return call | ({} if index is None else {"index": index}) | ({} if id_ is None else {"id": id_})


def calls(*pieces: Json, quirks: Quirks = OPENAI) -> list[tuple[str, str, str]]:
    answer = said(
        *(chunk({"tool_calls": [each]}) for each in pieces), chunk({}, "tool_calls"), quirks=quirks
    )
    return [(call.id, call.name, call.arguments) for call in answer.tool_calls]


def test_calls_are_gathered_by_index_and_numbered_from_0() -> None:
    raw = stream(
        chunk({"tool_calls": [piece(7, "x", "add", "")]}),
        chunk({"tool_calls": [piece(9, "y", "mul", '{"b"')]}),
        chunk({"tool_calls": [piece(7, None, None, "{}"), piece(9, "", "", ":2}")]}),
        chunk({}, "tool_calls"),
    )
    assert decode([raw])[1:-1] == [
        ToolCallDelta(0, "x", "add", ""),
        ToolCallDelta(1, "y", "mul", '{"b"'),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, arguments=":2}"),
    ]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # Gemini's twin counts every call 0.
        (
            [piece(0, "x", "f", "{}"), piece(0, "y", "g", "{}")],
            [("x", "f", "{}"), ("y", "g", "{}")],
        ),
        # Without an index, the id tells; without an id, what has no name goes on.
        ([piece(None, "x", "f", "{"), piece(None, "x", None, "}")], [("x", "f", "{}")]),
        ([piece(None, "x", "f", "{"), piece(None, None, None, "}")], [("x", "f", "{}")]),
        (
            [piece(None, "x", "f", "{}"), piece(None, "y", "g", "")],
            [("x", "f", "{}"), ("y", "g", "{}")],
        ),
        # A name that is told again with each piece is one name.
        ([piece(0, "x", "f", "{"), piece(0, "x", "f", "}")], [("x", "f", "{}")]),
        # A name that comes late is waited for.
        ([piece(0, "x", None, "{"), piece(0, None, "f", "}")], [("x", "f", "{}")]),
        # Arguments as an object.
        ([piece(0, "x", "f", {"a": 1})], [("x", "f", '{"a":1}')]),
        ([piece(0, "x", "f", None)], [("x", "f", "{}")]),
        # A call that never gets a name is not lost.
        ([piece(0, "x", None, "{}")], [("x", "", "{}")]),
    ],
)
def test_calls_are_told_apart_where_servers_count_wrong(
    pieces: list[Json], expected: list[tuple[str, str, str]]
) -> None:
    assert calls(*pieces) == expected


def test_a_call_without_an_id_is_given_one_of_its_own() -> None:
    first, second = calls(piece(0, None, "f", "{}"), piece(1, "", "g", "{}"))
    assert first[0].startswith("call_")
    assert second[0].startswith("call_")
    assert first[0] != second[0]
    assert calls(piece(0, None, "f", "{}"))[0] == first, "the same answer, the same id"


def test_an_answer_with_calls_has_stopped_for_them() -> None:
    """Ollama's twin says `stop` of any answer."""
    call = {"tool_calls": [piece(0, "x", "f", "{}")]}
    assert said(chunk(call), chunk({}, "stop")).stopped == Stopped(StopReason.TOOL_CALLS, "stop")
    assert said(chunk(call), quirks=GENERIC).stopped == Stopped(StopReason.TOOL_CALLS, None)


def test_the_old_function_call_is_read_where_servers_may_still_send_it() -> None:
    pieces = [
        chunk({"function_call": {"name": "add", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"a":1}'}}),
        chunk({"function_call": {"name": "", "arguments": ""}}, "function_call"),
    ]
    (call,) = said(*pieces, quirks=GENERIC).tool_calls
    assert (call.name, call.arguments) == ("add", '{"a":1}')
    assert said(*pieces).tool_calls == ()
    assert (
        said(
            chunk({"function_call": {"name": "", "arguments": ""}}, "stop"), quirks=GENERIC
        ).tool_calls
        == ()
    )


def test_a_call_that_has_neither_an_index_nor_an_id_begins_with_its_name() -> None:
    pieces = (piece(None, None, "f", "{}"), piece(None, None, "g", "{"), piece(None, None, "", "}"))
    assert [call[1:] for call in calls(*pieces)] == [("f", "{}"), ("g", "{}")]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(None, None, None, '{"a":'), piece(None, None, None, '{"b":')],
        [piece(1, None, None, '{"b":'), piece(0, None, None, '{"a":')],
        [piece(None, "y", None, '{"b":'), piece(None, "x", None, '{"a":')],
    ],
    ids=["by their order", "by an index", "by their ids"],
)
def test_pieces_of_calls_that_began_uncounted_find_them(pieces: list[Json]) -> None:
    rest = [piece(None, None, None, "1}"), piece(None, None, None, "2}")]
    answer = said(
        chunk({"tool_calls": [piece(None, "x", "f", ""), piece(None, "y", "g", "")]}),
        chunk({"tool_calls": pieces}),
        chunk({"tool_calls": rest}, "tool_calls"),
    )
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("f", '{"a":1}'),
        ("g", '{"b":2}'),
    ]


def test_an_uncounted_call_does_not_take_the_index_of_another() -> None:
    found = calls(
        piece(1, "x", "f", ""), piece(None, "y", "g", "{}"), piece(1, None, None, '{"a":1}')
    )
    assert found == [("x", "f", '{"a":1}'), ("y", "g", "{}")]


def test_a_piece_more_than_there_are_calls_is_of_the_last() -> None:
    answer = said(
        chunk({"tool_calls": [piece(None, "x", "f", "")]}),
        chunk({"tool_calls": [piece(None, None, None, "{"), piece(None, None, None, "}")]}, "stop"),
    )
    assert [call.arguments for call in answer.tool_calls] == ["{}"]


def test_a_custom_tool_is_called_with_text() -> None:
    def custom(**told: object) -> Json:
        return {"index": 0, "type": "custom", "custom": told}

    answer = said(
        chunk({"tool_calls": [custom(name="solve", input="") | {"id": "x"}]}),
        chunk({"tool_calls": [custom(input="4 +")]}),
        chunk({"tool_calls": [custom(input=" 4")]}, "tool_calls"),
    )
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("x", "solve", "4 + 4")
    ]
