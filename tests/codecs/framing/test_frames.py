"""What every streamed answer has in common, shown with the smallest dialect there can be."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.framing.frames import LARGE_BYTES, FrameDecoder, Framing, decoded
from orchestra.codecs.framing.jsonlines import JsonLinesFraming
from orchestra.codecs.framing.sse import SseFraming
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.errors import (
    AuthenticationError,
    MalformedStreamError,
    ModelError,
    OverloadedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.values import ModelEvent, Stopped, StopReason, TextDelta, UsageReport
from tests.codecs.amazon import CUTS, pieces
from tests.codecs.streamed import outcome_of

STRINGS = msgspec.json.Decoder(str)


class Letters(FrameDecoder):
    """Every line is a JSON string: `stop`, `usage`, `end` (done), `error`, or the next text."""

    def __init__(self, framing: Framing | None = None) -> None:
        super().__init__(framing or JsonLinesFraming(100))

    def _take(self, name: str, payload: bytes) -> None:
        match decoded(STRINGS, payload, "a line"):
            case "stop":
                self._emit(Stopped(StopReason.END, "stop"))
            case "stop twice":
                self._emit(Stopped(StopReason.LENGTH, "stop twice"))
            case "usage":
                self._emit(UsageReport(Usage(1, 2)))
            case "end":
                self.done = True
            case "error":
                raise OverloadedError("no room")
            case text:
                self._emit(TextDelta(text))


class Trailing(Letters):
    """Knows its usage only at the end of the body."""

    def _end(self) -> None:
        self._emit(UsageReport(Usage(3, 4)))


def outcome(
    parts: Iterable[bytes], decoder: FrameDecoder | None = None
) -> tuple[list[ModelEvent], str]:
    return outcome_of(decoder or Letters(), parts)


LINES = st.sampled_from(
    [
        b'"a"',
        b'"b"',
        b'"stop"',
        b'"stop twice"',
        b'"usage"',
        b'"end"',
        b'"error"',
        b"no",
        b'"' + b"x" * 99 + b'"',
        b"{",
        b'{"error": {"message": "who?", "code": 401}}',
    ]
)
STREAMS = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    st.lists(LINES, max_size=6),
    st.sampled_from((b"", b"\n")),
)


@given(STREAMS, CUTS)
def test_events_and_error_are_the_same_wherever_the_bytes_are_cut(
    stream: bytes, cuts: list[int]
) -> None:
    """Of a last line without an end, the events come with the end of the body."""
    whole = outcome([stream])
    assert outcome(pieces(stream, cuts)) == whole
    assert outcome([bytes([byte]) for byte in stream]) == whole


def test_a_decoder_that_has_failed_keeps_no_bytes_of_the_answer() -> None:
    """Its error may live as long as the run, and through a coroutine's frame so may the decoder."""
    framing = JsonLinesFraming(100)
    kept = weakref.ref(framing)
    decoder = Letters(framing)
    del framing
    decoder.feed(b'"error"\n"the rest"')
    try:
        decoder.close()
    except OverloadedError as error:
        error.with_traceback(None)
    assert kept() is None


@given(STREAMS, st.data())
def test_a_cut_stream_never_looks_complete(stream: bytes, data: st.DataObject) -> None:
    cut = stream[: data.draw(st.integers(0, len(stream)))]
    events, error = outcome([cut])
    stopped = [event for event in events if isinstance(event, Stopped)]
    assert error or len(stopped) == 1
    assert (b'"stop' in cut) or error


@given(STREAMS)
def test_the_first_reason_to_stop_counts(stream: bytes) -> None:
    events, _ = outcome([stream])
    assert sum(isinstance(event, Stopped) for event in events) <= 1


@given(STREAMS, STREAMS)
def test_nothing_comes_after_the_end(stream: bytes, more: bytes) -> None:
    decoder = Letters()
    decoder.feed(stream)
    if decoder.done:
        assert decoder.feed(more) == []


def test_an_error_waits_behind_what_came_before_it() -> None:
    decoder = Letters()
    assert decoder.feed(b'"a"\n"error"\n"b"\n') == [TextDelta("a")]
    assert decoder.done
    with pytest.raises(OverloadedError, match="no room"):
        decoder.close()


def test_what_the_cut_left_of_a_frame_is_a_cut_and_no_malformed_stream() -> None:
    with pytest.raises(TruncatedStreamError):
        Letters().close()
    decoder = Letters()
    decoder.feed(b'"a"\n"b')
    with pytest.raises(TruncatedStreamError):
        decoder.close()


def test_what_is_left_of_a_frame_after_the_stop_does_not_matter() -> None:
    decoder = Letters()
    events = decoder.feed(b'"a"\n"stop"\n"usa')
    assert Completion.of(events + decoder.close()).text == "a"


@pytest.mark.parametrize("wire", [b'"a"\nno\n"stop"\n', b'"stop"\n{"bad\n"usage"\n'])
def test_a_malformed_frame_in_the_middle_is_told(wire: bytes) -> None:
    """Also after the stop, where it looks as if it should have been one of the dialect's."""
    decoder = Letters()
    decoder.feed(wire)
    with pytest.raises(MalformedStreamError, match="a line is invalid"):
        decoder.close()


@pytest.mark.parametrize("last", [b" [DONE]", b'["[DONE]"]', b"done", b"[DONE"])
def test_a_last_word_of_another_dialect_is_passed_over(last: bytes) -> None:
    decoder = Letters()
    events = decoder.feed(b'"a"\n"stop"\n' + last + b'\n"usage"\n')
    assert Completion.of(events + decoder.close()).text == "a"
    early = Letters()
    early.feed(b'"a"\n' + last + b'\n"stop"\n')
    with pytest.raises(MalformedStreamError):
        early.close()


@pytest.mark.parametrize("name", ["ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"])
def test_a_keep_alive_that_is_no_object_is_passed_over_anywhere(name: str) -> None:
    alive = f"event: {name}\n".encode()
    decoder = Letters(SseFraming())
    events = decoder.feed(alive + b'data: alive\n\ndata: "a"\n\ndata: "stop"\n\n')
    assert Completion.of(events + decoder.close()).text == "a"
    other = Letters(SseFraming())
    other.feed(alive + b'data: {}\n\ndata: "stop"\n\n')
    with pytest.raises(MalformedStreamError):
        other.close()


@pytest.mark.parametrize("dialect", [OpenAiDialect, AnthropicDialect, CohereDialect, GeminiDialect])
@pytest.mark.parametrize(
    "text",
    [
        *(b"upstream is gone", b"{not JSON", b'"upstream is gone"'),
        *(b'{"message": "upstream is gone"}', b'{"detail": "upstream is gone"}'),
    ],
)
def test_an_event_named_error_is_an_error_whatever_its_data(
    dialect: type[Dialect], text: bytes
) -> None:
    """Some gateways write the error as plain text."""
    decoder = dialect().decoder()
    decoder.feed(b"event: error\ndata: " + text + b"\n\n")
    with pytest.raises(ProviderServerError, match=r"upstream is gone|not JSON"):
        decoder.close()


@pytest.mark.parametrize("dialect", [OpenAiDialect, AnthropicDialect, CohereDialect, GeminiDialect])
def test_an_error_that_is_mostly_brackets_is_not_decoded(dialect: type[Dialect]) -> None:
    """Decoded, it would take a hundred times its size."""
    decoder = dialect().decoder()
    decoder.feed(b'event: error\ndata: [{"message": "no"}' + b",{}" * LARGE_BYTES + b"]\n\n")
    with pytest.raises(ProviderServerError, match=r'^\[\{"message": "no"\},\{\},'):
        decoder.close()


def test_an_event_of_another_name_has_to_be_what_it_should() -> None:
    decoder = Letters(SseFraming())
    decoder.feed(b'event: message\ndata: alive\n\ndata: "stop"\n\n')
    with pytest.raises(MalformedStreamError):
        decoder.close()


def test_an_error_in_the_last_frame_is_told() -> None:
    decoder = Letters()
    decoder.feed(b'"a"\n"error"')
    with pytest.raises(OverloadedError):
        decoder.close()


def test_the_last_frame_may_be_the_stop() -> None:
    decoder = Letters(SseFraming())
    assert decoder.feed(b'data: "a"\n\ndata: "stop"') == [TextDelta("a")]
    assert decoder.close() == [Stopped(StopReason.END, "stop")]


@pytest.mark.parametrize("last", [b'"stop"\n', b'"stop"\n"end"\n', b'"stop"'])
def test_what_only_the_end_tells_is_told_at_the_end(last: bytes) -> None:
    events, error = outcome([b'"a"\n' + last], Trailing())
    assert not error
    assert events[-1] == UsageReport(Usage(3, 4))


def test_an_answer_that_is_done_without_a_stop_was_cut() -> None:
    decoder = Letters()
    decoder.feed(b'"a"\n"end"\n')
    with pytest.raises(TruncatedStreamError):
        decoder.close()


@pytest.mark.parametrize("payload", [b"", b"7", b'"\xff"', b'"a', b"[" * 100_000, b'"\\ud800"'])
def test_what_is_not_what_it_has_to_be_is_malformed(payload: bytes) -> None:
    for decoder in (STRINGS, msgspec.json.Decoder()):
        if payload == b"7":
            continue
        with pytest.raises(MalformedStreamError, match="a thing is invalid"):
            decoded(decoder, payload, "a thing")
    with pytest.raises(MalformedStreamError, match="a thing is invalid"):
        decoded(STRINGS, payload, "a thing")


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


ERRORS: list[tuple[bytes, type[ModelError], str]] = [
    (b'{"error": {"message": "no room", "code": "overloaded"}}', OverloadedError, "no room"),
    (
        b'{\n  "error": {\n    "message": "who?",\n    "code": 401\n  }\n}',
        AuthenticationError,
        "who",
    ),
    (b'{"status": 401, "title": "Unauthorized"}', AuthenticationError, "Unauthorized"),
    (b'[{"error": {"code": 429, "message": "slow down"}}]', RateLimitError, "slow down"),
    (event(b'{"detail": "no such deployment"}'), ProviderServerError, "no such deployment"),
    (event(b'{"detail": [{"msg": "required"}]}'), ProviderServerError, "required"),
    (b": ping\n\n" + event(b'{"code":"1302","msg":"too fast"}'), ProviderServerError, "too fast"),
]


@given(st.sampled_from(ERRORS), CUTS)
def test_an_error_in_place_of_an_answer_is_told_whatever_its_shape(
    case: tuple[bytes, type[ModelError], str], cuts: list[int]
) -> None:
    raw, kind, words = case
    for dialect in (OpenAiDialect(), AnthropicDialect()):
        decoder = dialect.decoder()
        for piece in pieces(raw, cuts):
            assert decoder.feed(piece) == []
        with pytest.raises(ModelError, match=words) as caught:
            decoder.close()
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "raw",
    [
        b"<html><body>Welcome</body></html>",
        b"upstream connect error: Welcome",
        b'"Welcome"',
        event(b'{"type": "ping", "Welcome": 1}'),
        b'{"message": {"content": "Welcome"}}',
        b"[]Welcome",
    ],
)
def test_what_is_neither_an_answer_nor_an_error_is_shown(raw: bytes) -> None:
    decoder = OpenAiDialect().decoder()
    assert decoder.feed(raw + b"x" * 9_000) == []
    with pytest.raises(
        TruncatedStreamError, match=r"it was cut.*; it began with '.*Welcome"
    ) as caught:
        decoder.close()
    assert len(str(caught.value)) < 400


UNFRAMED: list[tuple[bytes, type[ModelError], str]] = [
    (b'{"__type": "ThrottlingException", "message": "Rate exceeded"}', RateLimitError, "exceeded"),
    (b'\n{\n  "message": "Too many requests, please wait."\n}', ProviderServerError, "Too many"),
    (b'[{"error": {"code": 401, "message": "who?"}}]' + b" " * 5_000, AuthenticationError, "who"),
]


@given(
    st.sampled_from(UNFRAMED),
    CUTS,
    st.sampled_from((BedrockDialect, BedrockInvokeDialect, OllamaDialect)),
)
def test_json_that_is_in_no_frame_is_the_error_that_it_tells_however_it_is_cut(
    case: tuple[bytes, type[ModelError], str], cuts: list[int], dialect: type[Dialect]
) -> None:
    """As long as nothing was given, and in its first 4 KiB; else it is malformed, as before."""
    raw, kind, words = case
    decoder = dialect().decoder()
    for piece in pieces(raw, cuts):
        assert decoder.feed(piece) == []
    with pytest.raises(ModelError, match=words) as caught:
        decoder.close()
    assert type(caught.value) is kind


@given(
    st.sampled_from(
        (
            b'{"model": "m", "message": {"content": "hello"}}',
            b'{"message": "' + b"x" * 5_000 + b'"}',
            b"{" * 5_000,
            b"<html><body>Bad gateway</body></html>",
        )
    ),
    CUTS,
)
def test_what_is_in_no_frame_and_is_no_error_is_malformed(raw: bytes, cuts: list[int]) -> None:
    decoder = BedrockDialect().decoder()
    for piece in pieces(raw, cuts):
        assert decoder.feed(piece) == []
    with pytest.raises(MalformedStreamError, match="this is not an AWS event stream"):
        decoder.close()


def test_a_body_that_is_in_no_frame_is_read_no_further_than_an_error_may_go() -> None:
    decoders: tuple[tuple[FrameDecoder, bytes], ...] = (
        (BedrockDialect().decoder(), b"<html><body>"),
        (BedrockDialect().decoder(), b'{"message": "' + b"x" * 4_000),
        (BedrockDialect().decoder(), b'{"message": "' + b"x" * 4_083),
        (Letters(), b'"a"\n{\n'),
    )
    for decoder, wire in decoders:
        decoder.feed(wire)
    assert [decoder.done for decoder, _ in decoders] == [True, False, True, True]


def test_an_error_behind_what_was_given_is_none_of_its_own() -> None:
    for parts in ([b'"a"\n{"error": {"message": "no"}}\n'], [b'"a"\n', b'{"error": "no"}\n']):
        assert outcome(parts)[1].startswith("MalformedStreamError")


def test_an_answer_that_began_is_cut_whatever_stood_in_it() -> None:
    for raw in (b'data: "a"\n\n', b'data: "a"'):
        decoder = Letters(SseFraming())
        decoder.feed(b'x: {"error": "no"}\n' + raw)
        with pytest.raises(TruncatedStreamError, match=r"cut$"):
            decoder.close()
