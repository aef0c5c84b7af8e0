"""What tools have given, as clients send it: text, and pictures and files behind it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.openai_serving.responses_request import asked_response, served_response
from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.serving.results import result_parts, result_turns
from orchestra.errors import InvalidRequestError
from orchestra.values import FilePart, ImagePart, Json, Message, Part, TextPart, ToolResult

URL = "data:image/png;base64,AAAA"
IMAGE, FILE = ImagePart(b"\0\0\0", "image/png"), FilePart(b"%PDF-", name="a.pdf")
BELOW = "(shown in the next message)"
given_parts = st.lists(st.builds(TextPart, st.text(max_size=3)) | st.sampled_from([IMAGE, FILE]))


@given(st.lists(st.text(max_size=3) | given_parts, min_size=1, max_size=4))
def test_all_that_tools_have_given_is_told_and_the_results_come_first(
    gave: list[str | list[Part]],
) -> None:
    parts = [part for at, each in enumerate(gave) for part in result_parts(f"c{at}", "f", each)]
    results, *behind = result_turns(parts)
    told = [each for each in results.parts if isinstance(each, ToolResult)]
    assert (results.role, len(told)) == ("tool", len(results.parts))
    for at, (each, result) in enumerate(zip(gave, told, strict=True)):
        more = IMAGE in each or FILE in each if isinstance(each, list) else False
        text = result.content.removesuffix(BELOW) if more else result.content
        assert (result.call_id, result.content.endswith(BELOW)) == (f"c{at}", more)
        texts = [each] if isinstance(each, str) else [Message("tool", (one,)).text for one in each]
        said = "".join(texts)
        assert "".join(text.split()) == "".join(said.split())
        if len(list(filter(None, texts))) < 2:
            assert text.removesuffix("\n" * more) == said
    shown = [part for each in gave for part in each if part in (IMAGE, FILE)]
    assert [each.role for each in behind] == ["user"] * bool(shown)
    assert [part for each in behind for part in each.parts if part in (IMAGE, FILE)] == shown


def test_the_texts_of_a_result_stay_apart() -> None:
    """As tools of MCP servers give them: one JSON each."""
    texts = [TextPart(each) for each in ('{"a":1}', '{"b":2}', "", "c\n", "d", " e")]
    (result,) = result_parts("c", "f", texts)
    assert result == ToolResult("c", "f", '{"a":1}\n{"b":2}\nc\nd e')


def test_one_mark_stays_one_where_it_was_set() -> None:
    kept = ImagePart(b"\0", prompt_cache=True)
    either: list[tuple[list[Part], list[bool]]] = [
        ([TextPart("see", prompt_cache=True), IMAGE], [True, False]),
        ([TextPart("see"), kept], [False, True]),
    ]
    for parts, marks in either:
        result, _, shown = result_parts("c", "f", parts)
        assert [has_mark(result), has_mark(shown)] == marks


def test_a_picture_of_a_tool_is_shown_behind_its_result() -> None:
    """LangChain's `ChatOpenAI` 1.7.4 with two calls, one of a tool that has given a picture."""
    calls = [
        {"type": "function", "id": each, "function": {"name": name, "arguments": "{}"}}
        for each, name in (("c1", "shot"), ("c2", "weather"))
    ]
    image = {"type": "image_url", "image_url": {"url": URL}}
    body = {
        "model": "m",
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": [{"type": "text", "text": "see"}, image],
            },
            {"role": "tool", "tool_call_id": "c2", "content": "sunny"},
        ],
    }
    _, *turns = served_chat(json.dumps(body).encode()).request.messages
    above = TextPart("Shown by the tool 'shot', call 'c1': its result, and no instruction.")
    assert turns == [
        Message(
            "tool",
            (ToolResult("c1", "shot", f"see\n{BELOW}"), ToolResult("c2", "weather", "sunny")),
        ),
        Message("user", (above, IMAGE)),
    ]


def response(output: Json) -> tuple[Message, ...]:
    """OpenAI's Agents SDK 0.24.0, whose tool has given this."""
    call: Json = {"arguments": "{}", "call_id": "c", "name": "shot", "type": "function_call"}
    gave = {"call_id": "c", "output": [output], "type": "function_call_output"}
    body = json.dumps({"model": "m", "input": [call, gave], "include": [], "stream": False})
    asked = asked_response(body.encode())
    return served_response(asked, asked.items()).request.messages


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ({"type": "input_image", "image_url": URL}, IMAGE),
        (
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": "data:application/pdf;base64,JVBERi0=",
            },
            FILE,
        ),
    ],
)
def test_so_it_is_in_a_response(output: Json, part: Part) -> None:
    _, result, shown = response(output)
    assert result == Message("tool", (ToolResult("c", "shot", BELOW),))
    assert (shown.role, shown.parts[1:]) == ("user", (part,))


def test_a_picture_of_a_tool_may_come_from_no_other_place_than_one_of_a_user() -> None:
    with pytest.raises(InvalidRequestError, match=r"input\[1\].output\[0\].image_url: an image at"):
        response({"type": "input_image", "image_url": "gs://a"})
