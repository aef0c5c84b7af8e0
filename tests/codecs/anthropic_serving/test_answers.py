"""Anthropic's answers, both ways: what we write of an answer is read as the same."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, Span
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.anthropic.usage import usage_report
from orchestra.codecs.anthropic_serving.answers import (
    PING,
    MessageWriter,
    message_record,
    message_usage,
)
from orchestra.codecs.anthropic_serving.errors import anthropic_error, anthropic_status
from orchestra.codecs.serving.errors import error_reply
from orchestra.errors import (
    AuthenticationError,
    BudgetExceededError,
    ContextLengthError,
    InvalidRequestError,
    ModelError,
    ModelTimeoutError,
    OverloadedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import (
    Began,
    Json,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from tests.codecs.streamed import events_of

words = st.text(min_size=1, max_size=6)
seals = st.sampled_from(["", "", "anthropic:c2Vh"])
plain = st.builds(TextDelta, words) | st.builds(ReasoningDelta, words, seals)
objects = st.dictionaries(words, st.integers(0, 9) | words, max_size=2)
stops = st.sampled_from(
    [
        Stopped(StopReason.LENGTH, "max_tokens"),
        Stopped(StopReason.LENGTH, "model_context_window_exceeded"),
        Stopped(StopReason.STOP_SEQUENCE, "stop_sequence"),
        Stopped(StopReason.STOP_SEQUENCE, "stop_sequence", "END"),
        Stopped(StopReason.TOOL_CALLS, "tool_use"),
        Stopped(StopReason.PAUSED, "pause_turn"),
        Stopped(StopReason.CONTENT_FILTER, "refusal"),
        Stopped(StopReason.CONTENT_FILTER, "refusal", category="cyber"),
        Stopped(StopReason.END, "end_turn"),
    ]
)


numbers = st.integers(0, 99)
spans = st.builds(Span, st.sampled_from(["characters", "pages", "blocks"]), numbers, numbers)
blocks = st.builds(Span, st.just("blocks"), numbers, numbers)
pages = words.map("https://a.test/".__add__)
cited = st.one_of(
    st.builds(Citation, st.just(0), st.just(0), words, words, st.just(""), numbers, spans),
    st.builds(Citation, st.just(0), st.just(0), words, words, words, numbers, blocks),
    st.builds(Citation, st.just(0), st.just(0), words, words, pages),
)
"""Citations as Anthropic has them: of documents, of the results of a search, and of web pages."""


@st.composite
def answers(draw: st.DrawFn) -> list[ModelEvent]:
    """The events of an answer, as decoders give them: pieces of calls may mix, as OpenAI's may."""
    events: list[ModelEvent] = [Began("msg_1", "m")]
    left: dict[int, list[str]] = {}
    calls = 0
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["plain", "call", "more", "redacted", "cited"]))
        if kind == "plain":
            events.append(draw(plain))
        elif kind == "cited":
            begun = sum(len(each.text) for each in events if isinstance(each, TextDelta))
            said = draw(words)
            found = [
                attrs.evolve(each, start=begun, end=begun + len(said))
                for each in draw(st.lists(cited, min_size=1, max_size=2))
            ]
            events += [Cited(), TextDelta(said), Cited(tuple(found))]
        elif kind == "redacted":
            events += [TextDelta("."), ReasoningDelta("", "redacted:ZGF0YQ==")]
        elif kind == "call":
            events.append(ToolCallDelta(calls, f"id{calls}", draw(words)))
            text = msgspec.json.encode(draw(objects)).decode()
            cut = draw(st.integers(0, len(text)))
            left[calls] = [piece for piece in (text[:cut], text[cut:]) if piece]
            calls += 1
        elif waiting := [index for index, pieces in left.items() if pieces]:
            index = draw(st.sampled_from(waiting))
            events.append(ToolCallDelta(index, arguments=left[index].pop(0)))
    for index, pieces in left.items():
        events += [ToolCallDelta(index, arguments=piece) for piece in pieces]
    if draw(st.booleans()):
        fresh, said, cached, wrote = draw(st.tuples(*[st.integers(0, 99)] * 4))
        usage = Usage(fresh + cached + wrote, said, Certainty.EXACT, cached, wrote)
        events.append(usage_report(message_usage(usage), Certainty.EXACT))
    stopped = draw(stops)
    if stopped.reason is StopReason.CONTENT_FILTER:
        events += [RefusalDelta(said) for said in draw(st.lists(words, max_size=2))]
    return [*events, stopped]


def frames(events: list[ModelEvent]) -> list[bytes]:
    """An answer, written event by event."""
    writer = MessageWriter("msg_1", "m")
    return [*(writer.write([event]) for event in events), writer.close()]


decode = partial(events_of, AnthropicDialect())


def meant(events: Iterable[ModelEvent]) -> Completion:
    """What they come to; where nothing was counted, that is told as nothing."""
    whole = Completion.of(events)
    return whole.with_usage(whole.usage or Usage())


@given(answers())
def test_what_is_written_of_an_answer_is_read_as_the_same(events: list[ModelEvent]) -> None:
    assert meant(decode(frames(events))) == meant(events)


@given(answers(), st.data())
def test_any_split_gives_the_same_events(events: list[ModelEvent], data: st.DataObject) -> None:
    raw = b"".join(frames(events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(pieces) == decode([raw])


@given(answers())
def test_how_the_events_are_batched_makes_no_difference(events: list[ModelEvent]) -> None:
    writer = MessageWriter("msg_1", "m")
    assert writer.write(events) + writer.close() == b"".join(frames(events))


@given(answers())
def test_a_whole_message_is_what_its_stream_comes_to(events: list[ModelEvent]) -> None:
    whole = Completion.of(events)
    body = msgspec.json.encode(message_record(whole, "msg_1", "m", None))
    assert meant(AnthropicDialect().decode(body)) == meant(events)


@given(answers(), st.data())
def test_a_cut_stream_never_looks_complete(events: list[ModelEvent], data: st.DataObject) -> None:
    """Wherever it is cut, and where its run fails in the place of an end."""
    raw = b"".join(frames(events))
    end = raw.index(b"event: message_delta")
    with pytest.raises(TruncatedStreamError):
        decode([raw[: data.draw(st.integers(0, end))]])
    writer = MessageWriter("msg_1", "m")
    said = data.draw(st.integers(0, len(events)))
    begun = writer.write(events[:said])
    if said < len(events):
        with pytest.raises(TruncatedStreamError, match="must not look complete"):
            writer.close()
    failed = writer.failed(OverloadedError("busy"))
    assert b"message_stop" not in begun + failed
    with pytest.raises(OverloadedError):
        decode([begun, failed])


def read(raw: bytes) -> list[Json]:
    lines = raw.decode().split("\n")
    return [msgspec.json.decode(line[6:]) for line in lines if line.startswith("data: ")]


@given(answers())
def test_blocks_come_one_after_the_other(events: list[ModelEvent]) -> None:
    """Clients run a tool when its block has ended, and take the next for a new one."""
    open_: int | None = None
    expected = 0
    for event in read(b"".join(frames(events))):
        match event["type"]:
            case "content_block_start":
                assert (open_, event["index"]) == (None, expected)
                open_ = expected
            case "content_block_delta":
                assert event["index"] == open_
            case "content_block_stop":
                assert event["index"] == open_
                open_, expected = None, expected + 1
    assert open_ is None


def test_a_call_that_is_whole_does_not_hold_back_the_next() -> None:
    writer = MessageWriter("msg_1", "m")
    writer.write([ToolCallDelta(0, "a", "f", '{"x":'), ToolCallDelta(1, "b", "g", "{")])
    assert writer.write([ToolCallDelta(1, arguments="}")]) == b"", "the first may go on"
    shown = read(writer.write([ToolCallDelta(0, arguments="1}")]))
    assert [each["type"].removeprefix("content_block_") for each in shown] == [
        *("delta", "stop", "start", "delta", "delta"),
    ]
    assert b'"g2"' in writer.write([ToolCallDelta(2, "c", "g2")])


def test_a_call_whose_first_object_is_whole_may_go_on() -> None:
    writer = MessageWriter("msg_1", "m")
    writer.write([ToolCallDelta(0, "a", "f", '{"x":{}'), TextDelta("So")])
    assert b"So" in writer.write([ToolCallDelta(0, arguments="}")])


def test_a_stream_has_the_events_that_anthropic_sends() -> None:
    events: list[ModelEvent] = [
        UsageReport(Usage(7, 1)),
        TextDelta("Hi"),
        TextDelta("!"),
        UsageReport(Usage(7, 3, cached_input_tokens=2)),
        Stopped(StopReason.END),
    ]
    raw = b"".join(frames(events))
    assert PING in raw
    start, *_, ending, last = read(raw)
    assert start["message"]["usage"]["input_tokens"] == 7
    assert [each["type"] for each in read(raw)] == [
        *("message_start", "ping", "content_block_start"),
        *("content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert ending["delta"] == {
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
    }
    assert (ending["usage"]["input_tokens"], ending["usage"]["output_tokens"]) == (5, 3)
    assert last == {"type": "message_stop"}


def test_a_refusal_is_a_reason_to_stop_and_no_text() -> None:
    events: list[ModelEvent] = [
        RefusalDelta("I can"),
        RefusalDelta("not."),
        Stopped(StopReason.END),
    ]
    for found in (
        Completion.of(decode(frames(events))),
        Completion.of(
            AnthropicDialect().decode(
                msgspec.json.encode(message_record(Completion.of(events), "msg_1", "m", None))
            )
        ),
    ):
        assert (found.refusal, found.text) == ("I cannot.", "")
        assert found.stopped.reason is StopReason.CONTENT_FILTER


def test_the_seal_of_another_provider_goes_out_with_its_origin() -> None:
    raw = b"".join(frames([ReasoningDelta("Hm", "gemini:c2Vh"), Stopped(StopReason.END)]))
    assert b'"signature":"gemini:c2Vh"' in raw
    call = ToolCallDelta(0, "a", "f", "{}", "gemini:c2Vh")
    raw = b"".join(frames([call, Stopped(StopReason.TOOL_CALLS)]))
    assert b'"extra_content":{"google":{"thought_signature":"c2Vh"}}' in raw


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (
            InvalidRequestError("tools: no", code="invalid_value"),
            400,
            "invalid_request_error",
            None,
        ),
        (ContextLengthError("9 tokens"), 400, "invalid_request_error", "context_length_exceeded"),
        (BudgetExceededError("spent"), 402, "billing_error", "insufficient_quota"),
        (RateLimitError("slow"), 429, "rate_limit_error", "provider_rate_limited"),
        (QuotaError("spent"), 429, "rate_limit_error", "provider_quota"),
        (AuthenticationError("who?"), 502, "api_error", "provider_key"),
        (ProviderServerError("oh"), 500, "api_error", "server_error"),
        (ModelTimeoutError("late"), 504, "timeout_error", "timeout"),
        (OverloadedError("busy"), 529, "overloaded_error", "overloaded"),
        (KeyError("sk-123"), 500, "api_error", "run_failed"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
def test_an_error_has_anthropics_status_and_type(
    error: BaseException, status: int, kind: str, code: str | None
) -> None:
    reply = error_reply(error)
    told = anthropic_error(reply, "req")
    assert (anthropic_status(reply), told["error"]["type"]) == (status, kind)
    assert told["error"]["details"]["error_code"] == (code or "invalid_value")
    assert (told["type"], told["request_id"]) == ("error", "req")


@pytest.mark.parametrize(
    ("error", "read_as"),
    [
        (RateLimitError("slow"), RateLimitError),
        (OverloadedError("busy"), OverloadedError),
        (ContextLengthError("9 tokens are over 8"), ContextLengthError),
        (InvalidRequestError("no"), InvalidRequestError),
    ],
)
def test_an_error_is_read_as_what_it_was(error: ModelError, read_as: type[ModelError]) -> None:
    """As an HTTP answer, and as the last event of a stream."""
    reply = error_reply(error)
    body = msgspec.json.encode(anthropic_error(reply))
    found = AnthropicDialect().error(anthropic_status(reply), dict(reply.headers), body, 0.0)
    assert type(found) is read_as
    with pytest.raises(read_as):
        decode([MessageWriter("msg_1", "m").failed(error)])


def test_clients_know_by_its_words_that_a_conversation_is_too_long() -> None:
    told = anthropic_error(error_reply(ContextLengthError("9 tokens are over 8")))
    assert told["error"]["message"].startswith("prompt is too long: ")


def test_half_a_character_is_told_all_the_same() -> None:
    assert b"\\ud800" in b"".join(frames([TextDelta("\ud800"), Stopped(StopReason.END)]))
    assert msgspec.json.encode(anthropic_error(error_reply(InvalidRequestError("x: \ud800"))))


PROOF = Citation(3, 6, "Quoted.", "T", "", 0, Span("pages", 1, 2))


def outline(events: list[ModelEvent]) -> list[str]:
    """The blocks of a stream, and what is told in each."""
    told = list[str]()
    for event in read(b"".join(frames([*events, Stopped(StopReason.END)]))):
        if event["type"] == "content_block_start":
            told.append(event["content_block"]["type"])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            said = delta.get("text") or delta.get("citation", {}).get("cited_text") or "..."
            told[-1] += f" {said}"
    return told


def test_a_cited_passage_is_a_block_of_its_own() -> None:
    before, passage, behind = TextDelta("So "), TextDelta("far"), TextDelta(".")
    events: list[ModelEvent] = [before, Cited(), passage, Cited((PROOF,)), behind, behind]
    assert outline(events) == ["text So ", "text far Quoted.", "text . ."]
    late: list[ModelEvent] = [before, passage, Cited((PROOF,)), Cited((PROOF,)), behind]
    assert outline(late) == ["text So  far Quoted. Quoted.", "text ."], "nobody told where it began"


def test_citations_for_which_no_text_is_open_wait_for_the_next() -> None:
    call, text = ToolCallDelta(0, "c", "f", "{}"), TextDelta("So")
    assert outline([Cited((PROOF,)), text]) == ["text Quoted. So"]
    assert outline([text, call, Cited((PROOF,)), text]) == [
        *("text So", "tool_use ...", "text Quoted. So"),
    ]
    assert outline([text, call, Cited((PROOF,))]) == ["text So", "tool_use ..."]
    assert outline([Cited(), text, Cited()]) == ["text So"]


@pytest.mark.parametrize("reason", StopReason)
def test_an_answer_that_may_not_be_whole_never_looks_complete(reason: StopReason) -> None:
    """A reason that only another provider has is told as a cut."""
    record = message_record(Completion((), Stopped(reason, "raw")), "msg_1", "m", None)
    assert (record["stop_reason"] == "end_turn") == (reason is StopReason.END)
    if reason in (StopReason.LENGTH, StopReason.OTHER):
        assert record["stop_reason"] == "max_tokens"
