"""OpenAI's requests, both ways: what we write of a request, we read as the same."""

from __future__ import annotations

import json
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import attrs
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, OPENAI
from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.tool_calls import arguments_text
from orchestra.errors import InvalidRequestError
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

EVERYTHING = attrs.evolve(
    GENERIC,
    name="openai",
    efforts={**OPENAI.efforts, "max": "max"},
    strict_tools=True,
    prompt_cache=True,
    reasoning_key="reasoning_content",
)
"""A server that has a word for whatever we can ask."""

texts = st.text(max_size=8)
words = st.text(min_size=1, max_size=8)
numbers = st.none() | st.floats(-2, 2)
counts = st.none() | st.integers(1, 9)
images = st.builds(
    ImagePart,
    st.binary(max_size=5),
    st.sampled_from(["image/png", "image/svg+xml"]),
    st.sampled_from([None, "low", "high"]),
) | st.builds(ImageUrlPart, words.map(lambda word: "https://" + word))
files = st.builds(FilePart, st.binary(max_size=5), name=words)
names = st.sampled_from(["add", "mul"])
schemas = st.sampled_from([{"type": "object", "properties": {}}, {"type": "object", "title": "T"}])
tools = st.builds(Tool, names, texts, schemas, strict=st.booleans())
outputs = st.just(JsonOutput()) | st.builds(
    JsonOutput, schemas, words, strict=st.booleans(), description=st.none() | texts
)
speakers = st.none() | words
marks = st.booleans()
extras: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {},
    optional={
        "openai": st.dictionaries(
            st.sampled_from(["safety_identifier", "user"]), texts | st.just({"a": 1}), min_size=1
        ),
        "openai-dialect": st.dictionaries(
            st.sampled_from(["min_p", "guided_json"]), texts | st.just({"a": 1}), min_size=1
        ),
    },
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A conversation as we write it ourselves: text as text, results behind their calls."""
    found: list[Message] = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(
            st.sampled_from(["system", "user", "pictures", "assistant", "calls", "thought"])
        )
        if kind == "pictures":
            parts = draw(st.lists(images | files | st.builds(TextPart, texts, marks), max_size=3))
            parts.insert(draw(st.integers(0, len(parts))), draw(images | files))
            found.append(Message("user", tuple(parts), draw(speakers)))
        elif kind in {"system", "user", "assistant"}:
            text = draw(texts | words.map(lambda text: (TextPart(text, prompt_cache=True),)))
            if kind == "assistant" and not isinstance(text, str):
                text = text[0].text  # what the model has said has no mark there
            found.append(Message(kind, text, draw(speakers)))  # type: ignore[arg-type]
        else:
            said: list[Part] = [ReasoningPart(draw(words))] if kind == "thought" else []
            said += draw(st.just([]) | words.map(lambda text: [TextPart(text)]))
            calls: list[Part] = []
            if kind == "calls":
                calls = [
                    ToolCall(f"{number}-{index}", draw(names), arguments_text(draw(texts)))
                    for index in range(draw(st.integers(1, 3)))
                ]
            found.append(Message("assistant", (*said, *calls), draw(speakers)))
            if calls:
                results = (
                    ToolResult(call.id, call.name, draw(texts), prompt_cache=draw(marks))
                    for call in calls
                    if isinstance(call, ToolCall)
                )
                found.append(Message("tool", tuple(results)))
    return tuple(found)


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    has = tuple(draw(st.lists(tools, max_size=2)))
    all_choices: list[ToolChoice] = ["auto", "none", "required", ForcedTool("add")]
    choices = st.sampled_from(all_choices)
    return ChatRequest(
        draw(turns()),
        temperature=draw(numbers),
        output_tokens_max=draw(counts),
        stop=tuple(draw(st.lists(words, max_size=2))),
        seed=draw(st.none() | st.integers(-5, 5)),
        top_p=draw(numbers),
        top_k=draw(counts),
        presence_penalty=draw(numbers),
        frequency_penalty=draw(numbers),
        reasoning_effort=draw(st.sampled_from([None, *OPENAI.efforts])),
        tools=has,
        tool_choice=draw(st.none() | choices) if has else None,
        parallel_tool_calls=draw(st.none() | st.booleans()) if has else None,
        output=draw(st.none() | outputs),
        extras=draw(extras),
        logprobs=draw(st.none() | st.integers(0, 20)),
    )


@given(requests(), st.booleans(), st.sampled_from(["max_tokens", "max_completion_tokens"]))
def test_what_is_written_of_a_request_is_read_as_the_same(
    request: ChatRequest, stream: bool, key: Any
) -> None:
    quirks = attrs.evolve(EVERYTHING, max_tokens_key=key)
    served = served_chat(OpenAiDialect(quirks).ask("m", request, stream=stream).body)
    assert served.request == request
    assert (served.model, served.stream, served.include_usage) == ("m", stream, stream)


@given(requests())
def test_what_was_read_is_written_as_the_same_bytes(request: ChatRequest) -> None:
    dialect = OpenAiDialect(EVERYTHING)
    body = dialect.ask("m", request, stream=False).body
    assert dialect.ask("m", served_chat(body).request, stream=False).body == body


@given(
    st.binary()
    | st.builds(
        lambda value: json.dumps(value).encode(),
        st.dictionaries(
            st.sampled_from(["model", "messages", "stream", "tools", "stop", "n", "tool_choice"]),
            st.none()
            | st.booleans()
            | st.text()
            | st.lists(st.just({"role": "user"}) | st.integers()),
        ),
    )
)
def test_any_bytes_at_all_are_a_request_or_a_typed_error(body: bytes) -> None:
    with suppress(InvalidRequestError):
        assert served_chat(body).request.messages


def ask(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return served_chat(json.dumps(body).encode()).request


FILE: Json = {"type": "file", "file": {"file_data": "aGk=", "filename": "a.txt"}}
USER = {"role": "user", "content": "Hi"}
CALLING = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": 3}, "model: Expected `str`"),
        ({"model": None}, "model: Expected `str`"),
        ({"messages": []}, "messages: Expected `array` of length >= 1"),
        ({"messages": [USER, {"content": "x"}]}, "messages[1].role: "),
        ({"messages": [{"role": "function"}]}, "messages[0].role: Invalid enum value 'function'"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content: "),
        *(
            ({"messages": [USER, CALLING, message]}, "messages[2].content: it is missing")
            for message in (
                {"role": "user", "contents": "misspelt"},
                {"role": "system", "content": None},
                {"role": "developer"},
                {"role": "tool", "tool_call_id": "c"},
            )
        ),
        *(
            (
                {"messages": [USER, CALLING, {"role": role, "content": [], "tool_call_id": "c"}]},
                "messages[2].content: it is an empty list; send a text",
            )
            for role in ("user", "system", "developer", "tool")
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "content": "x"}]}]},
            "messages[0].content[0].type: a part of type 'text' cannot be read here, or lacks a field",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type: a part of type 'input_audio' cannot be read here",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": [{"type": "image_url", "image_url": "u"}]}
                ]
            },
            "messages[0].content[0].type: a part of type 'image_url' cannot be read here, or "
            "lacks a field; text is",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "data:x"}]}
                ]
            },
            "messages[0].content[0].image_url: 'data:x' is not a data URL in base64",
        ),
        (
            {"messages": [{"role": "user", "content": [FILE | {"file": {"file_id": "f-1"}}]}]},
            "messages[0].content[0].file.file_id: this server stores no files; send the file itself",
        ),
        (
            {"messages": [{"role": "user", "content": [FILE | {"file": {}}]}]},
            "messages[0].content[0].file.file_data: it is missing; send the file itself, as data:",
        ),
        (
            {"messages": [{"role": "user", "content": [FILE | {"file": {"file_data": "!"}}]}]},
            "messages[0].content[0].file.file_data: its data is not base64",
        ),
        (
            {"messages": [{"role": "assistant", "content": [FILE]}]},
            "messages[0].content[0].type: a part of type 'file' cannot be read here, or "
            "lacks a field; text is",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].image_url: its data is not base64",
        ),
        ({"messages": [CALLING | {"role": "user"}]}, "messages[0].tool_calls: the role 'user'"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id: it is missing",
        ),
        (
            {"messages": [CALLING, {"role": "tool", "tool_call_id": "d"}]},
            "messages[1].tool_call_id: no tool call before it has the id 'd'",
        ),
        ({"temperature": "hot"}, "temperature: Expected `float | null`, got `str`"),
        ({"max_tokens": -1}, "max_tokens: Expected `int` >= 0"),
        ({"n": 0}, "n: Expected `int` >= 1"),
        ({"n": 17}, "n: Expected `int` <= 16"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: Expected `int` <= 20"),
        ({"top_logprobs": 2}, "top_logprobs: it requires `logprobs`"),
        ({"metadata": {"a": 1}}, "metadata[...]: Expected `str`"),
        ({"orchestra": 1}, "orchestra: Expected `object | null`"),
        ({"stop": 3}, "stop: "),
        ({"reasoning_effort": "huge"}, "reasoning_effort: Invalid enum value 'huge'"),
        ({"tools": [{"type": "web"}]}, "tools[0].type: Invalid enum value 'web'"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name: "),
        ({"tool_choice": "maybe"}, "tool_choice: "),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema: it is missing",
        ),
        ({"functions": []}, "functions: it is the old form of 'tools'"),
        ({"function_call": "auto"}, "function_call: it is the old form of 'tool_choice'"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ask(**fields)
    assert caught.value.message.startswith(message)
    assert (caught.value.code, caught.value.status) == ("invalid_value", 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "model: it is missing"),
        (b"[]", "the body: Expected `object`, got `array`"),
        (b"{", "the body is not JSON: Input data was truncated"),
        (
            b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}',
            "the body is not JSON: \\ud83d is half of a character",
        ),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "the body is not JSON: "),
        (b'{"model":"m","messages":[{"role":"user"}],"x":"\xff"}', "the body is not JSON: "),
        (b'{"x":' + b"[" * 2_000_000, "the body is nested too deeply"),
    ],
)
def test_a_body_that_is_none_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        served_chat(body)
    assert caught.value.message.startswith(message)


def test_what_clients_write_otherwise_is_read_too() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert ask(messages=[{"role": "developer", "content": parts}]).messages == (
        Message("system", "Hi"),
    )
    assert ask(messages=[{"role": "user", "content": parts}]).messages == (
        Message("user", (TextPart("H"), TextPart("i"))),
    )
    said = {"role": "assistant", "content": None, "refusal": "No"}
    assert ask(messages=[said]).messages == (Message("assistant", "No"),)
    refusal = [{"type": "refusal", "refusal": "No"}]
    assert ask(messages=[{"role": "assistant", "content": refusal}]).messages == (
        Message("assistant", (TextPart("No"),)),
    )
    thought = {"role": "assistant", "content": None, "reasoning": "Hm"}
    assert ask(messages=[thought]).messages == (Message("assistant", (ReasoningPart("Hm"),)),)
    kept = {"role": "user", "content": parts, "cache_control": {"type": "ephemeral"}}
    assert ask(messages=[kept]).messages == (
        Message("user", (TextPart("H"), TextPart("i", prompt_cache=True))),
    )
    assert ask(stop="x").stop == ("x",)
    assert ask(response_format={"type": "text"}).output is None
    for effort in ("xhigh", "max"):
        assert ask(reasoning_effort=effort).reasoning_effort == effort
    assert ask(max_tokens=3, max_completion_tokens=4).output_tokens_max == 4
    (tool,) = ask(tools=[{"type": "function", "function": {"name": "f"}}]).tools
    assert tool == Tool("f", "", {"type": "object", "properties": {}})


def test_a_picture_may_be_named_without_a_type() -> None:
    url = {"type": "image_url", "image_url": "data:;base64,AAAA"}
    (message,) = ask(messages=[{"role": "user", "content": [url]}]).messages
    assert message.content == (ImagePart(b"\0\0\0", "image/png"),)


def test_a_file_may_come_without_saying_what_it_is() -> None:
    (message,) = ask(messages=[{"role": "user", "content": [FILE]}]).messages
    assert message.content == (FilePart(b"hi", "text/plain", "a.txt"),)


def test_what_we_have_no_field_for_is_kept_for_those_who_know_it() -> None:
    found = ask(service_tier="flex", user=None, n=1, min_p=0.5, orchestra={"cache": "off"}).extras
    assert found == {
        "openai": {"service_tier": "flex"},
        "openai-dialect": {"min_p": 0.5},
        "orchestra": {"cache": "off"},
    }
    assert ask().extras == MappingProxyType({})


def test_the_old_form_is_passed_over_where_the_new_one_stands_beside_it() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    found = ask(tools=[tool], functions=[{"name": "f"}], tool_choice="none", function_call="none")
    assert ([each.name for each in found.tools], found.tool_choice) == (["f"], "none")
    assert found.extras == {}


def test_what_is_to_be_kept_here_is_no_business_of_a_provider() -> None:
    body = {"model": "m", "messages": [USER], "store": True, "metadata": {"a": "b"}, "n": 3}
    served = served_chat(json.dumps(body).encode())
    assert (served.store, served.metadata, served.choices) == (True, {"a": "b"}, 3)
    assert served.request == ask()


def test_a_wrong_word_is_quoted_as_far_as_it_is_read() -> None:
    for role in ("x" * 9_999, "y - at `$.model`"):
        with pytest.raises(InvalidRequestError) as caught:
            ask(messages=[{"role": role, "content": ""}])
        said = caught.value.message
        assert said.startswith(f"messages[0].role: Invalid enum value '{role[:99]}")
        assert said.endswith("; known here: assistant, developer, system, tool, user")
        assert len(said) < 400


def test_likely_tokens_are_asked_for_by_their_number() -> None:
    assert [ask(logprobs=True).logprobs, ask(logprobs=True, top_logprobs=3).logprobs] == [0, 3]
    assert [ask(logprobs=False).logprobs, ask(top_logprobs=0).logprobs] == [None, None]


def test_a_stream_is_asked_for_and_so_is_its_usage() -> None:
    def served(**fields: Any) -> tuple[bool, bool]:
        found = served_chat(json.dumps({"model": "m", "messages": [USER]} | fields).encode())
        return found.stream, found.include_usage

    assert served() == (False, False)
    assert served(stream=True, stream_options={}) == (True, False)
    assert served(stream=True, stream_options={"include_usage": True}) == (True, True)


def test_what_openais_own_client_sends_is_read() -> None:
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.read())
        return httpx2.Response(400, json={"error": {"message": "seen"}})

    transport = httpx2.MockTransport(answer)
    with (
        openai.OpenAI(
            api_key="none",
            base_url="http://us.test/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=transport),
        ) as vendor,
        pytest.raises(openai.BadRequestError),
    ):
        vendor.chat.completions.create(
            model="m",
            messages=[
                {"role": "developer", "content": "Be kind"},
                {"role": "user", "content": "Hi"},
            ],
            max_completion_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
            tool_choice={"type": "function", "function": {"name": "f"}},
        )
    served = served_chat(seen[0])
    assert served.include_usage
    assert served.request == ChatRequest(
        (Message("system", "Be kind"), Message("user", "Hi")),
        output_tokens_max=9,
        tools=(Tool("f", "", {}),),
        tool_choice=ForcedTool("f"),
    )
