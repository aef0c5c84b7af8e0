"""OpenAI's dialect, its answers: laws of any stream, and the reasons to stop."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, OPENAI, PRESETS, Quirks
from orchestra.errors import (
    MalformedStreamError,
    ModelError,
    ProviderServerError,
    TruncatedStreamError,
)
from orchestra.values import Began, Json, Stopped, StopReason, TextDelta, ToolCall, UsageReport
from tests.codecs.openai_streams import USAGE, chunk, decode, said, stream


def outcome(pieces: Iterable[bytes], quirks: Quirks = GENERIC) -> object:
    """The events, and the error that ends them."""
    decoder = OpenAiDialect(quirks).decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    try:
        return [*events, *decoder.close()]
    except ModelError as error:
        return events, type(error), str(error)


texts = st.text(max_size=6)
maybe_texts = st.none() | texts
pieces_of_calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": maybe_texts, "arguments": maybe_texts})},
    optional={"index": st.integers(0, 2), "id": st.sampled_from(["x", "y", ""])},
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": maybe_texts,
        "reasoning_content": maybe_texts,
        "reasoning": maybe_texts,
        "refusal": maybe_texts,
        "tool_calls": st.none() | st.lists(pieces_of_calls, max_size=2),
    },
)
usages = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.none() | st.integers(0, 9)}
)
chunks = st.builds(lambda delta, usage: chunk(delta, usage=usage), deltas, usages)
answers = st.lists(chunks, max_size=6)
finishes = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "other"])


def split(raw: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@given(answers, finishes, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_any_split_gives_the_same_events(
    before: list[Json], finish: str, ending: str, data: st.DataObject
) -> None:
    raw = stream(*before, chunk(finish=finish), chunk(usage=USAGE))
    raw = raw.replace(b"\n", ending.encode())
    assert decode(split(raw, data)) == decode([raw])


@given(answers, finishes, st.data())
def test_a_cut_stream_never_looks_complete(
    before: list[Json], finish: str, data: st.DataObject
) -> None:
    """Not even one of a server that is forgiven a missing reason: its `[DONE]` is missing."""
    told = stream(*before, chunk(finish=finish), done=False)
    end = data.draw(st.integers(0, len(told) - len(b"}\n\n")))
    for quirks in (OPENAI, GENERIC):
        with pytest.raises(TruncatedStreamError):
            decode(split(told[:end], data), quirks)


@given(answers, finishes)
def test_the_last_thing_is_the_reason(before: list[Json], finish: str) -> None:
    events = decode([stream(*before, chunk(finish=finish), chunk(usage=USAGE))])
    assert [type(event) for event in events].index(Stopped) == len(events) - 1
    assert Completion.of(events).stopped.raw == finish
    assert Completion.of(events).usage == Usage(5, 2)


@given(answers, finishes, st.sampled_from([b"", b"\n", b": wait\n\n", b"event: x\n", b"id: 1\n"]))
def test_an_answer_that_is_streamed_though_nobody_asked_for_it_is_the_same(
    before: list[Json], finish: str, beginning: bytes
) -> None:
    raw = beginning + stream(*before, chunk(finish=finish), chunk(usage=USAGE))
    assert OpenAiDialect(GENERIC).decode(raw) == decode([raw])
    with pytest.raises(TruncatedStreamError):
        OpenAiDialect(GENERIC).decode(beginning + stream(*before, done=False) + b": cut")


@given(st.binary(), st.data())
def test_any_bytes_at_all_give_events_or_a_typed_error(raw: bytes, data: st.DataObject) -> None:
    framed = b"data: " + raw + b"\n\n"
    assert outcome(split(framed, data)) == outcome([framed])
    assert outcome(split(raw, data)) == outcome([raw])


KEYS = sorted(
    {"id", "model", "choices", "usage", "error", "object", "x_groq", "index", "delta", "message"}
    | {
        "finish_reason",
        "content",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "thinking",
    }
    | {"refusal", "data", "embedding", "prompt_tokens"}
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
almost = st.dictionaries(st.sampled_from(KEYS), anything) | st.builds(
    lambda choice: {"choices": [choice]}, st.dictionaries(st.sampled_from(KEYS), anything)
)


@given(st.lists(almost, max_size=4))
def test_any_json_at_all_gives_events_or_a_typed_error(values: list[Json]) -> None:
    raw = stream(*values)
    assert outcome([raw]) == outcome([raw[at : at + 1] for at in range(len(raw))])
    for value in values:
        for read in (OpenAiDialect(GENERIC).decode, OpenAiDialect().decode_embeddings):
            with suppress(ModelError):
                assert read(json.dumps(value).encode())


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"error":' * 200_000, b"\xff", b"", b"null"])
def test_what_no_decoder_can_read_is_a_typed_error(body: bytes) -> None:
    dialect = OpenAiDialect()
    for read in (dialect.decode, dialect.decode_embeddings):
        with pytest.raises(MalformedStreamError):
            read(body)
    with pytest.raises((MalformedStreamError, TruncatedStreamError)):
        decode([b"data: " + body + b"\n\n"])
    assert isinstance(dialect.error(500, {}, body, 0.0), ProviderServerError)


def test_a_whole_answer_and_a_streamed_one_come_to_the_same() -> None:
    call = {"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    message = {"content": "Hm.", "reasoning_content": "Let me see.", "tool_calls": [call]}
    body = chunk(finish="tool_calls", usage=USAGE)
    body["choices"][0]["message"] = message
    whole = Completion.of(OpenAiDialect().decode(json.dumps(body).encode()))
    streamed = said(chunk(message), chunk(finish="tool_calls"), chunk(usage=USAGE))
    assert whole == streamed
    assert whole.tool_calls == (ToolCall("c1", "add", '{"a": 1}'),)
    assert (whole.reasoning, whole.text, whole.id, whole.model) == ("Let me see.", "Hm.", "a", "m")


def test_a_stream_is_told_event_by_event() -> None:
    events = decode(
        [
            stream(
                chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
                chunk({"content": "Hel"}),
                chunk({"content": "lo"}),
                chunk({}, "stop"),
                {"id": "a", "model": "m", "choices": [], "usage": USAGE},
            )
        ]
    )
    assert events == [
        Began("a", "m"),
        TextDelta("Hel"),
        TextDelta("lo"),
        UsageReport(Usage(5, 2), USAGE),
        Stopped(StopReason.END, "stop"),
    ]


def test_only_the_first_choice_is_read() -> None:
    other = {"index": 1, "delta": {"content": "No"}, "finish_reason": "length"}
    both = chunk({"content": "Yes"}, "stop")
    both["choices"].append(other)
    answer = said({"id": "a", "choices": [other]}, both, {"id": "a", "choices": [other]})
    assert (answer.text, answer.stopped.raw) == ("Yes", "stop")


def test_an_end_without_a_reason_is_forgiven_only_where_the_flag_is_set() -> None:
    raw = stream(chunk({"content": "Hi"}, ""))
    with pytest.raises(TruncatedStreamError):
        decode([raw])
    assert decode([raw], GENERIC)[-1] == Stopped(StopReason.END, None)
    with pytest.raises(TruncatedStreamError):
        decode([stream(chunk({"content": "Hi"}), done=False)], GENERIC)
    body = chunk(finish="")
    body["choices"][0]["message"] = {"content": "Hi"}
    raw = json.dumps(body).encode()
    assert OpenAiDialect().decode(raw)[-1] == Stopped(StopReason.OTHER, "")
    assert OpenAiDialect(GENERIC).decode(raw)[-1] == Stopped(StopReason.END, "")


@given(answers, st.sampled_from([OPENAI, GENERIC]), st.data())
def test_an_error_in_no_known_format_ends_an_answer_without_a_reason(
    before: list[Json], quirks: Quirks, data: st.DataObject
) -> None:
    """Otherwise, where `[DONE]` is the finish, half an answer would look complete."""
    empty: Json = data.draw(st.sampled_from([{}, {"choices": []}]))
    usage: Json = {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    after = data.draw(st.sampled_from([[], [usage], [{"choices": [], **usage}]]))
    failed = {"detail": "out of memory", **empty}
    raw = stream(*before, failed, *after, done=data.draw(st.booleans()))
    decoder = OpenAiDialect(quirks).decoder()
    for piece in split(raw, data):
        decoder.feed(piece)
    with pytest.raises(ProviderServerError, match="out of memory"):
        decoder.close()


def test_an_event_that_is_no_chunk_changes_no_answer_with_a_reason() -> None:
    note = {"message": "searching"}
    answer = Completion.of(
        decode([stream(note, chunk({"content": "Hi"}), note, chunk(None, "stop"), note)])
    )
    assert (answer.text, answer.stopped.raw) == ("Hi", "stop")


def test_an_event_that_is_no_chunk_is_no_error_if_the_answer_goes_on() -> None:
    before = [{"message": "searching"}, chunk({"content": "Hi"})]
    with pytest.raises(TruncatedStreamError):
        decode([stream(*before)])
    assert decode([stream(*before)], GENERIC)[-1] == Stopped(StopReason.END, None)


@pytest.mark.parametrize("delta", [None, {"role": "assistant", "content": ""}])
def test_done_alone_is_no_answer(delta: Json | None) -> None:
    """A route would take it for a success, and ask no other model."""
    before = [] if delta is None else [chunk(delta)]
    with pytest.raises(TruncatedStreamError):
        decode([stream(*before)], GENERIC)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("finish", [None, ""])
def test_a_whole_answer_without_a_reason_is_complete(preset: str, finish: str | None) -> None:
    """Its JSON is; only a cache must not take it for an end, nor `generate`."""
    quirks = PRESETS[preset]
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": finish}]}
    answer = Completion.of(OpenAiDialect(quirks).decode(json.dumps(body).encode()))
    reason = StopReason.END if quirks.done_is_finish else StopReason.OTHER
    assert (answer.text, answer.stopped) == ("Hi", Stopped(reason, finish))


def test_a_chunk_is_no_whole_answer() -> None:
    """The first line of a stream that was cut there, under the name of JSON."""
    body = chunk({"content": "Hi"}) | {"object": "chat.completion.chunk"}
    with pytest.raises(TruncatedStreamError, match="the answer is a chunk of a stream"):
        OpenAiDialect().decode(json.dumps(body).encode())


@pytest.mark.parametrize("indices", [(None, None), (1, 0), (1, None), (0, 0)])
def test_of_a_whole_answer_the_first_choice_is_read_however_it_is_counted(
    indices: tuple[int | None, int | None],
) -> None:
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": reason}
        for index, text, reason in zip(indices, ("one", "two"), ("stop", "length"), strict=True)
    ]
    answer = Completion.of(OpenAiDialect().decode(json.dumps({"choices": choices}).encode()))
    assert (answer.text, answer.stopped.raw) == ("one", "stop")


def test_of_a_stream_a_choice_that_is_not_counted_has_its_place_for_an_index() -> None:
    chunks: list[Json] = [
        {"choices": [{"delta": {"content": "A"}}, {"delta": {"content": "B"}}]},
        {"choices": [{"index": 1, "delta": {"content": "C"}}]},
        {"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]},
    ]
    answer = Completion.of(decode([stream(*chunks)]))
    assert (answer.text, answer.stopped.raw) == ("A", "stop")


def test_nothing_is_read_behind_the_end() -> None:
    decoder = OpenAiDialect().decoder()
    decoder.feed(stream(chunk({"content": "Hi"}, "stop")) + stream(chunk({"content": "No"})))
    assert decoder.done
    assert decoder.feed(stream(chunk({"content": "No"}))) == []
    assert decoder.close() == [Stopped(StopReason.END, "stop")]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", StopReason.END),
        ("length", StopReason.LENGTH),
        ("model_length", StopReason.LENGTH),
        ("tool_calls", StopReason.TOOL_CALLS),
        ("function_call", StopReason.TOOL_CALLS),
        ("content_filter", StopReason.CONTENT_FILTER),
        ("eos_token", StopReason.END),
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("content_filter: PROHIBITED_CONTENT", StopReason.CONTENT_FILTER),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", StopReason.OTHER),
        ("sensitive", StopReason.CONTENT_FILTER),
        ("model_context_window_exceeded", StopReason.LENGTH),
        ("repetition_truncation", StopReason.LENGTH),
        ("end_turn", StopReason.END),
        ("tool_use", StopReason.TOOL_CALLS),
        ("whatever", StopReason.OTHER),
    ],
)
def test_reasons_to_stop(raw: str, reason: StopReason) -> None:
    assert said(chunk({"content": "x"}, raw)).stopped == Stopped(reason, raw)


def test_a_choice_may_have_a_reason_and_nothing_else() -> None:
    """Google's, of a prompt that it did not answer."""
    reason = "content_filter: PROHIBITED_CONTENT"
    choice = {"finish_reason": reason, "index": 0}
    whole = OpenAiDialect(GENERIC).decode(json.dumps({"choices": [choice]}).encode())
    assert Completion.of(whole).stopped == Stopped(StopReason.CONTENT_FILTER, reason)


def test_of_several_reasons_the_last_counts() -> None:
    """Azure's filter, when it works behind the model, takes back what has stopped already."""
    answer = said(chunk({"content": "x"}, "stop"), chunk({}, "content_filter"))
    assert answer.stopped == Stopped(StopReason.CONTENT_FILTER, "content_filter")


def test_vllm_tells_the_sequence_that_it_stopped_at() -> None:
    by_text, by_token = chunk({"content": "x"}, "stop"), chunk({"content": "x"}, "stop")
    by_text["choices"][0]["stop_reason"] = "###"
    by_token["choices"][0]["stop_reason"] = 151_643
    assert said(by_text).stopped == Stopped(StopReason.STOP_SEQUENCE, "stop", "###")
    assert said(by_token).stopped.reason is StopReason.END
    by_text["choices"][0]["finish_reason"] = "length"
    assert said(by_text).stopped == Stopped(StopReason.LENGTH, "length")


def test_an_answer_may_have_a_model_and_no_id() -> None:
    nameless = chunk({"content": "Hi"}, "stop") | {"id": ""}
    assert decode([stream(nameless)])[:2] == [Began("", "m"), TextDelta("Hi")]
    assert decode([stream(nameless | {"id": None, "model": None})])[0] == TextDelta("Hi")
