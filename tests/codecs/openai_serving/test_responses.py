"""OpenAI's responses API, both ways: streams end in what is told whole, and go back as they were."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.citations import Citation, Cited
from orchestra.codecs.openai.logprobs import logprobs_record
from orchestra.codecs.openai.usage import usage_record
from orchestra.codecs.openai_serving.responses import ResponseWriter
from orchestra.codecs.openai_serving.responses_record import (
    ResponseHead,
    response_record,
    response_usage,
)
from orchestra.codecs.openai_serving.responses_request import asked_response, served_response
from orchestra.codecs.serving.allowlist import Allowlist
from orchestra.codecs.serving.requests import ServedChat
from orchestra.errors import InvalidRequestError, OverloadedError, TruncatedStreamError
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.values import (
    Began,
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UsageReport,
)

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
HEAD = ResponseHead("r1", "m", 5, asked_response(b'{"model":"m","input":"Hi"}').echo(), {})
END = Stopped(StopReason.END, "stop")
words = st.text(max_size=5)
stops = st.sampled_from([*StopReason]).map(Stopped)


@st.composite
def answers(draw: st.DrawFn) -> list[ModelEvent]:
    """The events of an answer; a refusal is the last that is said, as with those who refuse."""
    events: list[ModelEvent] = [Began("theirs", "gpt", draw(st.just({}) | st.just(TIER)))]
    if draw(st.booleans()):
        events.append(Cited((Citation(0, 0, "", "Of all", "https://a.test/"),)))
    begun = chars = 0
    kinds = st.sampled_from(["text", "cited", "thought", "call", "more"])
    for kind in draw(st.lists(kinds, max_size=9)):
        if kind == "cited":
            said, source = draw(words), draw(st.sampled_from(["https://a.test/", "a.pdf"]))
            place = chars, chars + len(said)
            chars += len(said)
            passage = Cited((Citation(*place, draw(words), "T", source),)) if said else Cited()
            events += [TextDelta(said), passage]
        elif kind == "text":
            said = draw(words)
            events.append(TextDelta(said))
            chars += len(said)
        elif kind == "thought":
            seal = draw(st.sampled_from(["", "", "anthropic:c2Vh", "openrouter:[]"]))
            events.append(ReasoningDelta(draw(words), seal))
        elif kind == "call":
            events.append(ToolCallDelta(begun, f"id{begun}", draw(words), draw(words)))
            begun += 1
        elif begun:
            events.append(ToolCallDelta(draw(st.integers(0, begun - 1)), arguments=draw(words)))
    if draw(st.booleans()):
        events.append(RefusalDelta(draw(st.text(max_size=5))))
    if draw(st.booleans()):
        events.append(UsageReport(Usage(3, 4, cached_input_tokens=1, reasoning_tokens=2)))
    return [*events, draw(stops)]


TIER = {"service_tier": "default"}


def events_of(raw: bytes) -> list[Json]:
    """The events of a stream, each with its name as the field `event` tells it."""
    found = []
    for frame in raw.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def written(events: list[ModelEvent], *, singly: bool = False) -> list[Json]:
    writer = ResponseWriter(HEAD)
    batches = [[each] for each in events] if singly else [events]
    return events_of(b"".join([*map(writer.write, batches), writer.close()]))


@given(answers(), st.booleans())
def test_a_stream_ends_in_what_is_told_whole(events: list[ModelEvent], singly: bool) -> None:
    *_, last = written(events, singly=singly)
    assert last["response"] == response_record(Completion.of(events), HEAD)
    assert last["type"] == f"response.{last['response']['status']}"


@given(answers())
def test_every_event_is_one_of_openais_and_they_are_numbered(events: list[ModelEvent]) -> None:
    told = written(events)
    for event in told:
        EVENTS.validate_python(event)
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    assert [each["type"] for each in told[:2]] == ["response.created", "response.in_progress"]


@given(answers())
def test_each_item_is_told_from_its_beginning_to_its_end(events: list[ModelEvent]) -> None:
    """As a client collects it: what was added grows by its deltas, and is then what is done."""
    growing: dict[int, str] = {}
    done: dict[int, Json] = {}
    *told, last = written(events)
    for event in told:
        at, kind = event.get("output_index"), event["type"]
        if kind == "response.output_item.added":
            assert at == len(growing)
            growing[at] = ""
        elif kind.endswith(".delta"):
            assert at not in done
            growing[event["output_index"]] += event["delta"]
        elif kind == "response.output_item.done":
            done[event["output_index"]] = event["item"]
    assert [done[at] for at in sorted(done)] == last["response"]["output"]
    for at, text in growing.items():
        parts = done[at].get("content") or done[at].get("summary") or [{}]
        whole = done[at].get("arguments") or parts[0].get("text") or parts[0].get("refusal") or ""
        assert whole in {text, "{}"} if done[at]["type"] == "function_call" else whole == text


@given(answers(), st.data())
def test_what_was_cut_ends_in_an_error_and_never_looks_complete(
    events: list[ModelEvent], data: st.DataObject
) -> None:
    writer = ResponseWriter(HEAD)
    raw = writer.write(events[: data.draw(st.integers(0, len(events) - 1))])
    with pytest.raises(TruncatedStreamError, match="must not look complete"):
        writer.close()
    *before, failed, error = events_of(raw + writer.failed(OverloadedError("slow down")))
    assert not {"response.completed", "response.incomplete"} & {each["type"] for each in before}
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"]["code"] == error["code"] == "overloaded"
    assert error["error"]["code"] == "overloaded", "OpenAI's client for Python raises for this"
    EVENTS.validate_python(error)


def test_half_of_a_character_is_told_as_json_can() -> None:
    *_, last = written([TextDelta("a"), TextDelta("\ud83d"), END])
    assert last["response"]["output"][0]["content"][0]["text"] == "a\ud83d"


def test_a_tokens_likelihood_stands_with_its_text_and_with_all_of_it() -> None:
    one, two = (Logprobs((TokenLogprob(each, -0.5, None, ()),)) for each in "ab")
    said: list[ModelEvent] = [one, TextDelta("a"), two, TextDelta("b"), TextDelta("c"), END]
    told = written(said)
    deltas = [each["logprobs"] for each in told if each["type"] == "response.output_text.delta"]
    both = [*logprobs_record(one)["content"], *logprobs_record(two)["content"]]
    assert deltas == [[both[0]], [both[1]], []]
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == both
    assert told[-1]["response"] == response_record(Completion.of(said), HEAD)


@pytest.mark.parametrize("reason", StopReason)
def test_an_answer_that_may_not_be_whole_is_incomplete(reason: StopReason) -> None:
    record = response_record(Completion((TextPart("Hi"),), Stopped(reason, "raw")), HEAD)
    whole = reason in (StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS)
    assert (record["status"] == "completed") == (record["incomplete_details"] is None) == whole


def test_a_record_is_one_of_openais() -> None:
    usage = {**usage_record(Usage(3, 4)), "orchestra": {"run_id": "r1"}}
    record = response_record(Completion((TextPart("Hi"),), END), HEAD, usage)
    found = Response.model_validate(record)
    assert (found.output_text, found.status, found.error) == ("Hi", "completed", None)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3, 4)
    assert record["usage"]["orchestra"] == {"run_id": "r1"}
    assert response_usage(usage)["input_tokens_details"]["cached_tokens"] == 0


# --- what is asked -----------------------------------------------------------------------------


def served(allowed: Allowlist | None = None, **body: Any) -> ServedChat:
    raw = json.dumps({"model": "m", "input": "Hi", **body}).encode()
    asked = asked_response(raw)
    kept: dict[str, list[Json]] = {id_: [] for id_ in asked.referred()}
    return served_response(asked, asked.resolved(kept), allowed or Allowlist())


def asked(**body: Any) -> ChatRequest:
    return served(**body).request


@given(answers())
def test_an_answer_that_is_sent_back_is_the_turn_that_it_was(events: list[ModelEvent]) -> None:
    """With what seals it, and its calls; a refusal is text from then on."""
    answer = Completion.of(events)
    output = response_record(answer, HEAD)["output"]
    results = [
        {"type": "function_call_output", "call_id": each.id, "output": f"of {each.id}"}
        for each in answer.tool_calls
    ]
    calls = [each for each in output if each["type"] == "function_call"]
    if any(not each["name"] for each in calls):
        with pytest.raises(InvalidRequestError, match="name: it is missing"):
            asked(input=[{"role": "user", "content": "Hi"}, *output])
        return
    request = asked(input=[{"role": "user", "content": "Hi"}, *output, *results])
    refusal = (TextPart(answer.refusal),) if answer.refusal else ()
    wanted = [Message("user", "Hi")]
    if parts := (*answer.parts, *refusal):
        wanted.append(Message("assistant", parts))
    assert [each.parts for each in request.messages[: len(wanted)]] == [
        each.parts for each in wanted
    ]
    given_back = [part for each in request.messages[len(wanted) :] for part in each.parts]
    assert given_back == [
        ToolResult(each.id, each.name, f"of {each.id}") for each in answer.tool_calls
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "call_id", "output", "id"]), inner
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(["message", "function_call", "function_call_output", "reasoning"])
items = st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS | json_values,
        "role": st.sampled_from(["user", "assistant", "developer"]) | json_values,
        "content": json_values,
        "call_id": st.sampled_from(["a", ""]),
        "name": st.just("f"),
        "output": json_values,
        "id": st.sampled_from(["msg_r1_0", "x"]),
    },
)


@given(
    st.fixed_dictionaries(
        {"model": st.just("m"), "input": st.lists(items, max_size=4) | json_values},
        optional={
            "tools": json_values,
            "text": json_values,
            "reasoning": json_values,
            "tool_choice": json_values,
            "previous_response_id": json_values,
            "include": json_values,
        },
    )
)
def test_any_json_at_all_is_read_or_refused_with_its_path(body: Json) -> None:
    try:
        found = asked_response(json.dumps(body).encode())
        found.referred()
        served_response(found, found.resolved({}))
        found.echo()
    except InvalidRequestError as error:
        refusal = error.code, ": " in error.message
    else:
        return
    assert refusal == ("invalid_value", True)


def test_what_is_asked_is_read_as_a_request() -> None:
    request = asked(
        instructions="Be kind.",
        input=[
            {"role": "developer", "content": [{"type": "input_text", "text": "Short."}]},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "See"},
                    {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                    {
                        "type": "input_file",
                        "file_data": "data:text/plain;base64,aGk=",
                        "filename": "n.txt",
                    },
                ],
            },
        ],
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=9,
        reasoning={"effort": "high", "summary": "auto"},
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
        include=["message.output_text.logprobs"],
        user="u",
        min_p=0.1,
        orchestra={"cache": "off"},
    )
    picture = ImagePart(b"hi", "image/png")
    file = FilePart(b"hi", "text/plain", "n.txt")
    link = ImageUrlPart("https://a/b.png", "low")
    assert request == ChatRequest(
        messages=(
            Message("system", "Be kind."),
            Message("system", "Short."),
            Message("user", (TextPart("See"), link, picture, file)),
        ),
        temperature=0.5,
        top_p=0.9,
        output_tokens_max=9,
        reasoning_effort="high",
        tools=(Tool("f", "", {"type": "object"}),),
        tool_choice=ForcedTool("f"),
        parallel_tool_calls=False,
        output=JsonOutput({}, "n", strict=False),
        extras={
            "orchestra": {"cache": "off"},
            "openai": {"user": "u", "verbosity": "low"},
            "openai-dialect": {"min_p": 0.1},
        },
        logprobs=0,
    )


def test_any_object_may_be_asked_for() -> None:
    assert asked(text={"format": {"type": "json_object"}}).output == JsonOutput()


def test_what_another_version_has_kept_is_refused_as_what_it_is() -> None:
    found = asked_response(b'{"model":"m","input":"Hi"}')
    with pytest.raises(InvalidRequestError, match=r"input: Expected .*role"):
        served_response(found, [{"role": 5}])


def test_what_a_tool_gave_may_come_in_parts() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    parts = [{"type": "input_text", "text": each} for each in ("sunny", "dry")]
    request = asked(input=[call, {"type": "function_call_output", "call_id": "c", "output": parts}])
    assert request.messages == (
        Message("assistant", (ToolCall("c", "f"),)),
        Message("tool", (ToolResult("c", "f", "sunny\ndry"),)),
    )


DEEP: Json = reduce(lambda inner, _: {"a": inner}, range(200), {})
REFUSED: list[tuple[Json, str]] = [
    (
        {"background": True},
        "background: not supported here; send POST /v1/pipelines",
    ),
    ({"conversation": "c"}, "conversation: not supported here; use previous_response_id"),
    ({"prompt": {"id": "p"}}, "prompt: this server has no stored prompts"),
    ({"truncation": "auto"}, "truncation: this server does not shorten"),
    ({"tools": [{"type": "web_search"}]}, r"tools\[0\].type: 'web_search' is a tool that OpenAI"),
    ({"tools": [{"type": "custom"}]}, r"tools\[0\].type: .* send a function with one string"),
    ({"tools": [{"type": "function"}]}, r"tools\[0\].name: it is missing"),
    ({"input": []}, "input: Expected `array` of length >= 1"),
    ({"input": [{"type": "mcp_call"}]}, r"input\[0\].type: an item of type 'mcp_call'"),
    ({"input": [{"content": "a"}]}, r"input\[0\].role: it is missing"),
    ({"input": [{"role": "user"}]}, r"input\[0\].content: it is missing; send a text"),
    ({"input": [{"role": "user", "content": []}]}, r"input\[0\].content: it is an empty list"),
    (
        {
            "input": [
                {"type": "function_call", "call_id": "c", "name": "f"},
                {"type": "function_call_output", "call_id": "c"},
            ]
        },
        r"input\[1\].output: it is missing; send a text",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        r"input\[0\].content\[0\].file_data: it is missing; send the file itself",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
        r"input\[0\].content\[0\].file_id: this server stores no files; send the file itself",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://a"}]}]},
        r"input\[0\].content\[0\].file_url: files are not fetched; send the file",
    ),
    (
        {"input": [{"role": "system", "content": [{"type": "input_file", "file_data": ""}]}]},
        r"input\[0\].content\[0\].type: a part of type 'input_file' cannot be read here, or "
        "lacks a field; text is",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "gs://a"}]}]},
        r"input\[0\].content\[0\].image_url: an image at 'gs://a'",
    ),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
        r"input\[0\].call_id: no tool call before it has the id 'c'",
    ),
    (
        {"input": [{"type": "item_reference", "id": "x"}]},
        r"input\[0\].id: 'x' is not the id of an item",
    ),
    (
        {"input": [{"type": "item_reference", "id": "msg_r_0"}]},
        r"input\[0\].id: no item 'msg_r_0' is stored; if `store` was false, send the item itself",
    ),
    (
        {"input": [{"type": "function_call", "name": "f"}]},
        r"input\[0\].call_id: it is missing",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c"}]},
        r"input\[0\].name: it is missing",
    ),
    (
        {"input": [{"type": "function_call_output", "output": ""}]},
        r"input\[0\].call_id: it is missing; send the id of the call",
    ),
    (
        {"store": True, "input": [{"role": "user", "content": "a", "extra_content": DEEP}]},
        "input: it is nested deeper than 200, and cannot be stored; send `store` as false",
    ),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema: it is missing"),
    ({"web_search_options": {}}, "web_search_options: it would have the provider use"),
]


@pytest.mark.parametrize(("body", "why"), REFUSED)
def test_what_cannot_be_done_is_refused_with_its_path(body: Json, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^.*{why}"):
        served(**body)


def test_too_many_references_are_refused_before_anything_is_looked_up() -> None:
    named = [{"type": "item_reference", "id": f"msg_r{at}_0"} for at in range(65)]
    found = asked_response(json.dumps({"model": "m", "input": named}).encode())
    with pytest.raises(InvalidRequestError, match="input: it references items of 65 responses"):
        found.referred()


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_a_request_grows_by_no_more_than_what_is_kept(named: list[str]) -> None:
    """A name is 60 bytes, and an item up to 256 KiB: 17,000 names of one would be gigabytes."""
    kept = {f"resp_{each}": [{"id": f"msg_{each}_0", "content": each * 1000}] for each in "abc"}
    items = [{"type": "item_reference", "id": f"msg_{each}_0"} for each in named]
    found = asked_response(json.dumps({"model": "m", "input": items}).encode())
    if len({*named}) == len(named):
        assert [item["content"][0] for item in found.resolved(kept)] == named
    else:
        with pytest.raises(InvalidRequestError, match=r"input\[\d\]\.id: .* is referenced twice"):
            found.resolved(kept)


def test_a_seal_of_which_nobody_knows_whose_it_is_goes_nowhere() -> None:
    """Such as one of OpenAI's own, from a conversation that began there."""
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    assert asked(input=[thought, {"role": "user", "content": "Hi"}]).messages == (
        Message("user", "Hi"),
    )


def test_what_the_vendor_calls_an_event_is_what_is_checked_here() -> None:
    assert len(get_args(get_args(ResponseStreamEvent)[0])) > 40


def test_many_references_to_one_response_are_resolved_in_linear_time() -> None:
    """In quadratic time, this would take a quarter of an hour."""
    kept = [{"id": f"msg_a_{at}", "content": ""} for at in range(100_000)]
    items = [{"type": "item_reference", "id": each["id"]} for each in reversed(kept)]
    found = asked_response(json.dumps({"model": "m", "input": items}).encode())
    assert found.resolved({"resp_a": kept}) == kept[::-1]
