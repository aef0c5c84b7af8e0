"""OpenRouter's list of what was thought: it goes back as one, however it came."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, OPENROUTER
from orchestra.codecs.openai_serving.answers import AnswerWriter, answer_record
from orchestra.codecs.openai_serving.request import served_chat
from orchestra.values import ChatRequest, Json, Message, ReasoningPart, ToolCall

DIALECT = OpenAiDialect(OPENROUTER)
MODEL = "anthropic/claude-sonnet-5"
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
thought = st.tuples(st.lists(texts, min_size=1, max_size=4), st.sampled_from(["", "c2VhbA=="]))
thoughts = st.lists(thought | st.just(None), min_size=1, max_size=4)
"""Texts in pieces, with a seal or without one, and None for what is encrypted."""


def whole(told: list[tuple[list[str], str] | None]) -> list[Json]:
    details: list[Json] = []
    for index, each in enumerate(told):
        if each is None:
            kind: Json = {"type": "reasoning.encrypted", "data": "RU5D", "id": f"id{index}"}
        else:
            kind = {"type": "reasoning.text", "text": "".join(each[0])}
            kind["signature"] = each[1] or None
        details.append({**kind, "format": "google-gemini-v1", "index": index})
    return details


def in_pieces(told: list[tuple[list[str], str] | None]) -> list[Json]:
    """As a stream has it: a piece of text after the other, and the seal by itself."""
    pieces: list[Json] = []
    for detail, each in zip(whole(told), told, strict=True):
        if each is None:
            pieces.append(detail)
        else:
            pieces += [detail | {"text": text, "signature": None} for text in each[0]]
            pieces += [detail | {"text": "", "signature": each[1]}] if each[1] else []
    return pieces


def streamed(pieces: list[Json], *more: Json) -> Completion:
    deltas: list[Json] = [{"reasoning_details": [piece]} for piece in pieces]
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": each}]} for each in [*deltas, *more]]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    wire = b"".join(b"data: %b\n\n" % json.dumps({"id": "a", **each}).encode() for each in chunks)
    decoder = DIALECT.decoder()
    return Completion.of([*decoder.feed(wire + b"data: [DONE]\n\n"), *decoder.close()])


def answered(**message: Any) -> Completion:
    choice = {"message": message, "finish_reason": "stop"}
    return Completion.of(DIALECT.decode(json.dumps({"id": "a", "choices": [choice]}).encode()))


def sent(answer: Completion, dialect: OpenAiDialect = DIALECT, model: str = MODEL) -> Json:
    request = ChatRequest((answer.message,))
    turn: Json = json.loads(dialect.ask(model, request, stream=False).body)["messages"][0]
    return turn


@given(thoughts)
def test_a_sealed_list_goes_back_as_it_was(told: list[tuple[list[str], str] | None]) -> None:
    details = whole(told)
    streams, at_once = streamed(in_pieces(told)), answered(reasoning_details=details)
    if all(each is not None and not each[1] for each in told):
        assert "reasoning_details" not in sent(streams), "its text will do"
        assert sent(streams).get("reasoning") == "".join(each["text"] for each in details)
        return
    assert sent(streams)["reasoning_details"] == sent(at_once)["reasoning_details"] == details
    assert "reasoning" not in sent(streams)
    thought = "".join(each.get("text", "") for each in details)
    assert streams.reasoning == at_once.reasoning == thought


def test_summaries_grow_too_and_what_has_a_seal_does_not() -> None:
    text: Json = {"type": "reasoning.text", "index": 0}
    pieces: list[Json] = [
        {"type": "reasoning.summary", "summary": "a", "index": 0},
        {"type": "reasoning.summary", "summary": "b", "index": 0, "id": "s"},
        {"type": "reasoning.summary", "summary": "c", "index": 0, "id": None},
        text | {"text": "x", "signature": "one"},
        text | {"text": "y", "signature": "two"},
        {"type": "reasoning.server_tool_call", "index": 1, "call": {"x": 1}, "": "y"},
    ]
    assert sent(streamed(pieces))["reasoning_details"] == [
        {"type": "reasoning.summary", "summary": "abc", "index": 0, "id": "s"},
        *pieces[3:],
    ]


def test_a_seal_of_a_call_stands_under_the_id_that_the_call_is_sent_with() -> None:
    long = "tool_" + "x" * 60
    call = {"id": long, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    details: list[Json] = [
        {"type": "reasoning.encrypted", "data": "RU5D", "id": long},
        {"type": "reasoning.encrypted", "data": "RU5D", "id": ["odd"]},
    ]
    turn = sent(answered(tool_calls=[call], reasoning_details=details))
    id_ = turn["tool_calls"][0]["id"]
    assert len(id_) <= 40
    assert [each["id"] for each in turn["reasoning_details"]] == [id_, ["odd"]]


@pytest.mark.parametrize("model", ["google/gemini-3-pro-preview", MODEL])
def test_a_real_seal_takes_the_place_of_words_for_none(model: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    details: list[Json] = [{"type": "reasoning.encrypted", "data": "RU5D", "id": "c"}]
    answer = answered(tool_calls=[call], reasoning_details=details)
    assert sent(answer, model=model)["reasoning_details"] == details


def test_servers_that_want_no_list_are_sent_none() -> None:
    answer = answered(reasoning="hm", reasoning_details=whole([None]))
    assert "reasoning_details" not in sent(answer, OpenAiDialect(GENERIC))
    off = OpenAiDialect(attrs.evolve(OPENROUTER, reasoning_details=False))
    assert sent(answer, off) == {"role": "assistant", "content": "", "reasoning": "hm"}


def test_what_is_no_list_is_left_out() -> None:
    message = Message("assistant", (ReasoningPart("hm", "openrouter:{"),))
    body = DIALECT.ask(MODEL, ChatRequest((message,)), stream=False).body
    assert json.loads(body)["messages"][0]["reasoning"] == "hm"


@pytest.mark.parametrize("details", [5, "x", {"text": "hm"}, [], [5], None])
def test_a_client_s_list_that_is_none_is_passed_over(details: object) -> None:
    told = {"role": "assistant", "content": "so", "reasoning_details": details}
    body = json.dumps({"model": "m", "messages": [told]}).encode()
    assert served_chat(body).request.messages == (Message("assistant", "so"),)


# --- through our own server -----------------------------------------------------------------------


def served_back(turn: Json) -> ChatRequest:
    """What a client asks that sends an answer of ours back."""
    return served_chat(json.dumps({"model": "m", "messages": [turn]}).encode()).request


@pytest.mark.parametrize("stream", [True, False])
def test_clients_of_ours_carry_seals_as_those_of_openrouter_and_google(*, stream: bool) -> None:
    details = whole([(["h", "m"], "c2VhbA=="), None])
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    extra = {"extra_content": {"google": {"thought_signature": "Y2FsbA=="}}}
    events = DIALECT.decode(
        json.dumps(
            {
                "id": "a",
                "choices": [
                    {
                        "message": {"reasoning_details": details, "tool_calls": [call | extra]},
                        "finish_reason": "tool_calls",
                    }
                ],
            }
        ).encode()
    )
    if stream:
        writer = AnswerWriter(0)
        wire = writer.write(events) + writer.close()
        client = DIALECT.decoder()
        answer = Completion.of([*client.feed(wire), *client.close()])
        turn = sent(answer)
        (told,) = sent(answer, OpenAiDialect(GENERIC))["tool_calls"]
    else:
        turn = answer_record([Completion.of(events)], 0)["choices"][0]["message"]
        (told,) = turn["tool_calls"]
    assert turn["reasoning_details"] == details
    assert told["extra_content"] == extra["extra_content"]
    (message,) = served_back(turn | {"tool_calls": [told]}).messages
    assert message.parts[-1] == ToolCall("c", "f", signature="Y2FsbA==")
    again = DIALECT.ask(MODEL, ChatRequest((message,)), stream=False).body
    assert json.loads(again)["messages"][0]["reasoning_details"] == details
