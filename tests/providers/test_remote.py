"""A model behind an API: what is sent, what comes back, and what an error tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import pairwise
from traceback import format_exception, walk_tb
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import TEI
from orchestra.codecs.reasoning_tags import ReasoningTags
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    InvalidRequestError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
    OverloadedError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.protocols import HttpReply, HttpRequest, Timeouts, Transport
from orchestra.providers import remote
from orchestra.providers.credentials import bearer
from orchestra.providers.network import open_transport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.rankings import Ranked, Ranking, RerankRequest
from orchestra.secret import Secret
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ImagePart,
    Message,
    ModelEvent,
    ReasoningEffort,
    ReasoningPart,
    Stopped,
    StopReason,
    TextDelta,
    Vector,
)
from tests.loop_steps import counted_steps
from tests.providers.upstream import Visit, upstream

T = TypeVar("T")

KEY = "sk-very-secret"
ASKED = ChatRequest((Message("user", "why?"),))
STREAMED = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Be"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"cause"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)
WHOLE = msgspec.json.encode(
    {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "message": {"content": "Because"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3},
    }
)


@attrs.define(eq=False)
class Canned:
    """A transport whose answers are ready; keeps the contract of `protocols.Transport`."""

    answers: list[tuple[int, Sequence[bytes]]]
    headers: Mapping[str, str] = {}
    error: ModelError | None = None
    """What the connection fails with behind the last piece; None for a body's end."""
    sent: list[HttpRequest] = attrs.field(factory=list)
    left: list[bool] = attrs.field(factory=list)
    """For each exchange that was left: whether its body had been read to the end."""

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        self.sent.append(request)
        status, pieces = self.answers.pop(0)
        return _Exchange(self, status, list(pieces))


@attrs.define(eq=False)
class _Exchange:
    transport: Canned
    status: int
    pieces: list[bytes]
    ended: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        return self.transport.headers

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.transport.left.append(self.ended)

    def forget_headers(self) -> None:
        pass

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.pieces:
            return self.pieces.pop(0)
        if self.transport.error is not None:
            raise self.transport.error
        self.ended = True
        return b""


def canned(*pieces: bytes, status: int = 200, **options: Any) -> Canned:
    return Canned([(status, pieces)], **options)


@attrs.define(eq=False)
class Stalling:
    """A transport whose bodies have no end: behind the last piece nothing comes."""

    canned: Canned

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        self.canned.sent.append(request)
        status, pieces = self.canned.answers.pop(0)
        return _Stalled(self.canned, status, list(pieces))


class _Stalled(_Exchange):
    async def receive(self) -> bytes:
        if not self.pieces:
            await trio.sleep_forever()
        return await super().receive()


def model(transport: Transport, **options: Any) -> RemoteModel:
    endpoint = Endpoint(
        provider="openai",
        model="gpt",
        base_url="https://api.example.test/v1/",
        dialect=OpenAiDialect(),
        credentials=bearer(Secret(KEY)),
        headers=(("x-team", "blue"),),
        **options,
    )
    return RemoteModel(endpoint, transport)


async def heard(asked: RemoteModel, request: ChatRequest = ASKED) -> list[ModelEvent]:
    events: list[ModelEvent] = []
    async with asked.stream(request) as reply:
        while batch := await reply.receive():
            events += batch
        assert await reply.receive() == ()
    return events


def run(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    return trio.run(function, *arguments)


cuts = st.lists(st.integers(0, len(STREAMED)), max_size=8).map(sorted)


def pieces_of(body: bytes, at: Sequence[int]) -> list[bytes]:
    ends = [0, *at, len(body)]
    return [piece for a, b in pairwise(ends) if (piece := body[a:b])]


@given(cuts)
def test_however_the_bytes_are_cut_the_answer_is_the_same(at: list[int]) -> None:
    transport = canned(*pieces_of(STREAMED, at))
    events = run(heard, model(transport))
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == "Because"
    assert [event for event in events if isinstance(event, Stopped)] == [
        Stopped(StopReason.END, "stop")
    ]
    assert len(transport.left) == 1


@given(st.integers(0, STREAMED.index(b'"stop"')), st.booleans())
def test_a_cut_stream_never_looks_complete(at: int, broken: bool) -> None:
    error = ModelConnectionError("the connection broke") if broken else None
    transport = canned(STREAMED[:at], error=error)
    with pytest.raises((TruncatedStreamError, ModelConnectionError)) as caught:
        run(heard, model(transport))
    assert caught.value.retryable
    assert (caught.value.provider, caught.value.model) == ("openai", "gpt")
    assert len(transport.left) == 1


REASON_TOLD = STREAMED.index(b"\n\n", STREAMED.index(b'"stop"')) + 2


@given(st.integers(REASON_TOLD, len(STREAMED)), st.sampled_from(["", "cut", "late"]))
def test_what_has_said_why_it_stopped_is_whole_however_its_body_ends(at: int, ends: str) -> None:
    """There are servers that never say `[DONE]`, and close the connection, or leave it open."""
    errors = {"cut": ModelConnectionError("it broke"), "late": ModelTimeoutError("it is silent")}
    transport = canned(STREAMED[:at], error=errors.get(ends))
    events = run(heard, model(transport))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Because"
    assert events[-1] == Stopped(StopReason.END, "stop")


def test_what_is_sent_has_the_model_the_key_and_the_headers() -> None:
    transport = canned(STREAMED)
    run(heard, model(transport))
    (request,) = transport.sent
    assert request.url == "https://api.example.test/v1/chat/completions"
    assert dict(request.headers) == {
        "content-type": "application/json",
        "x-team": "blue",
        "authorization": f"Bearer {KEY}",
    }
    sent = msgspec.json.decode(request.body)
    assert (sent["model"], sent["stream"]) == ("gpt", True)
    assert KEY not in repr(request)


@pytest.mark.parametrize("whole", [False, True])
def test_no_step_of_the_loop_writes_a_long_conversation(*, whole: bool) -> None:
    """Each turn is looked at; writing one takes ten calls."""
    asked = attrs.evolve(ASKED, messages=(Message("user", "a"),) * 20_000)

    async def main() -> int:
        with counted_steps() as steps:
            if whole:
                await model(canned(WHOLE)).complete(asked)
            else:
                await heard(model(canned(STREAMED)), asked)
        return steps.longest

    assert run(main) < 2 * len(asked.messages)


@given(st.lists(st.sampled_from(["Content-Type", "content-type", "X-Team"]), unique_by=str.lower))
def test_a_header_of_the_deployment_takes_the_place_of_the_dialects(names: list[str]) -> None:
    """One that is sent twice is two values, of which a server takes either, or none."""
    transport = canned(STREAMED)
    made = model(transport)
    made.endpoint = attrs.evolve(made.endpoint, headers=tuple((name, "ours") for name in names))
    run(heard, made)
    sent = [(name.lower(), value) for name, value in transport.sent[0].headers]
    assert len(sent) == len(dict(sent))
    assert {name for name, value in sent if value == "ours"} == {name.lower() for name in names}
    assert "content-type" in dict(sent)


@pytest.mark.parametrize("way", ["stream", "complete", "embed"])
def test_half_a_character_is_told_as_what_it_is(way: str) -> None:
    """It cannot be sent, and was an error of Python's that no pipeline counts on."""
    transport = canned(STREAMED)
    made, half = model(transport), "a\ud800b"

    async def main() -> object:
        if way == "embed":
            return await made.embed(EmbedRequest((half,)))
        request = ChatRequest((Message("user", half),))
        return await (heard(made, request) if way == "stream" else made.complete(request))

    with pytest.raises(InvalidRequestError, match="half of a character") as caught:
        run(main)
    assert caught.value.provider
    assert not transport.sent


def test_the_reader_stops_at_the_last_byte_that_matters() -> None:
    """A server that keeps the connection open behind `[DONE]` holds nobody up."""
    never = ModelConnectionError("nobody should read on")
    events = run(heard, model(canned(STREAMED, error=never)))
    assert Stopped(StopReason.END, "stop") in events


def test_an_answer_that_is_read_to_its_last_byte_leaves_the_connection_free() -> None:
    transport = canned(STREAMED)
    run(heard, model(transport))
    assert transport.left == [True]


def test_a_body_without_end_behind_a_whole_answer_is_not_waited_for() -> None:
    class Open(_Exchange):
        async def receive(self) -> bytes:
            if self.pieces:
                return self.pieces.pop(0)
            await trio.sleep_forever()
            raise AssertionError

    class Unending(Canned):
        def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
            return Open(self, 200, [STREAMED])

    clock = trio.testing.MockClock(autojump_threshold=0)
    events = trio.run(heard, model(Unending([])), clock=clock)
    assert Stopped(StopReason.END, "stop") in events


@pytest.mark.parametrize(
    "kind", ["application/json", "text/event-stream; charset=utf-8", "text/plain", ""]
)
@pytest.mark.parametrize(
    "pieces",
    [
        (WHOLE[:5], WHOLE[5:]),
        (b"\n", b"  \n", WHOLE[:1], WHOLE[1:]),
        (b"\xef", b"\xbb\xbf", WHOLE[:1], WHOLE[1:]),
    ],
    ids=["at once", "behind blanks", "behind a mark"],
)
def test_an_answer_in_one_piece_to_a_stream_is_an_answer(
    pieces: tuple[bytes, ...], kind: str
) -> None:
    """Whether the server labels it as JSON, as the stream that it was asked for, or not at all."""
    transport = canned(*pieces, headers={"content-type": kind})
    assert TextDelta("Because") in run(heard, model(transport))


@pytest.mark.parametrize("way", ["stream", "whole", "whole to a stream"])
def test_reasoning_in_the_text_is_no_part_of_the_answer(way: str) -> None:
    tagged = b"<think>Why not?</think>\\n\\nBecause"
    body = STREAMED.replace(b"Be", tagged[:-5]) if way == "stream" else WHOLE
    transport = canned(body.replace(b"Because", tagged), headers={"content-type": ""})
    asked = model(transport, reasoning_tags=ReasoningTags("<think>", "</think>"))
    found = run(asked.complete, ASKED) if way == "whole" else Completion.of(run(heard, asked))
    assert found.text == "Because"
    assert [part.text for part in found.parts if isinstance(part, ReasoningPart)] == ["Why not?"]


LINES = (
    b'{"message":{"content":"Be"},"done":false}\n'
    b'{"message":{"content":"cause"},"done":true,"done_reason":"stop"}\n'
)


@given(st.sampled_from(("application/json", "text/event-stream", "")), st.data())
def test_json_lines_with_any_label_are_a_stream(kind: str, data: st.DataObject) -> None:
    """Whole, they give their events; cut, what came before, and then an error."""
    end = data.draw(st.integers(0, len(LINES) - 1))
    at = data.draw(st.integers(0, end))
    told: list[ModelEvent] = []

    async def hear(model: RemoteModel) -> None:
        async with model.stream(ASKED) as reply:
            while events := await reply.receive():
                told.extend(events)

    def ask(*pieces: bytes) -> None:
        transport = canned(*filter(None, pieces), headers={"content-type": kind})
        asked = model(transport)
        asked.endpoint = attrs.evolve(asked.endpoint, dialect=OllamaDialect())
        told.clear()
        run(hear, asked)

    ask(LINES[:at], LINES[at:])
    assert told[1:] == [TextDelta("Be"), TextDelta("cause"), Stopped(StopReason.END, "stop")]
    if end < len(LINES) - 1:  # the last byte ends a line, and the answer needs no such end
        with pytest.raises((MalformedStreamError, TruncatedStreamError)):
            ask(LINES[:at], LINES[at:end])
        assert told[1:] in ([], [TextDelta("Be")])


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", ""])
@pytest.mark.parametrize("at", [0, 1, 20])
def test_json_lines_with_a_wrong_label_are_told_as_they_come(kind: str, at: int) -> None:
    first, _ = LINES.splitlines(keepends=True)
    cut = ModelConnectionError("the provider has hung up")
    pieces = [*filter(None, (first[:at], first[at:]))]
    asked = model(canned(*pieces, headers={"content-type": kind}, error=cut))
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=OllamaDialect())
    told: list[ModelEvent] = []

    async def hear(model: RemoteModel) -> None:
        async with model.stream(ASKED) as reply:
            while events := await reply.receive():
                told.extend(events)

    with pytest.raises(ModelConnectionError):
        run(hear, asked)
    assert told[1:] == [TextDelta("Be")]


@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"busy","code":"rate_limit_exceeded"}}', RateLimitError),
        (b'{"bad', MalformedStreamError),
        (b'{"id":"1"}', MalformedStreamError),
    ],
)
def test_an_error_in_one_piece_is_told_as_what_it_is(
    body: bytes, kind: type[ModelError], label: str
) -> None:
    transport = canned(body, headers={"content-type": label})
    with pytest.raises(kind):
        run(heard, model(transport))


def test_events_labelled_as_json_are_events() -> None:
    transport = canned(STREAMED, headers={"content-type": "application/json; charset=utf-8"})
    assert TextDelta("Be") in run(heard, model(transport))


def test_complete_asks_for_one_piece_and_only_the_total_bounds_it() -> None:
    transport = canned(WHOLE)
    answer = run(model(transport, timeouts=Timeouts(first_byte_s=1.0)).complete, ASKED)
    assert (answer.text, answer.usage) == ("Because", Usage(2, 3))
    (request,) = transport.sent
    assert request.timeouts.first_byte_s is None
    assert request.timeouts.total_s == Timeouts().total_s
    assert msgspec.json.decode(request.body).get("stream", False) is False


@pytest.mark.parametrize("whole", [True, False])
def test_an_error_says_where_and_holds_no_key(*, whole: bool) -> None:
    said = {"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}
    transport = canned(msgspec.json.encode(said), status=401, headers={"x-request-id": "req_1"})
    with pytest.raises(AuthenticationError) as caught:
        run(model(transport).complete, ASKED) if whole else run(heard, model(transport))
    error = caught.value
    assert str(error) == ("openai gpt: HTTP 401: Incorrect API key: [redacted] (request req_1)")
    assert KEY not in repr(error)
    assert (error.status, error.code, error.retryable) == (401, "invalid_api_key", False)
    assert transport.left == [True]


@pytest.mark.parametrize("field", ["code", "type", "message", "param", "request_id"])
def test_no_field_of_an_error_holds_the_key(field: str) -> None:
    """Clients read the `code` of some errors; and whoever repeats a key may do so anywhere."""
    said = {"error": {"message": "no", field: f"a {KEY}b"}, "request_id": KEY}
    transport = canned(msgspec.json.encode(said), status=400, headers={"x-request-id": KEY})
    with pytest.raises(ModelError) as caught:
        run(model(transport).complete, ASKED)
    error = caught.value
    assert KEY not in str([str(error), *vars(error).values(), error.args])


@pytest.mark.parametrize(
    "raw", [b'data: {"x%b": \n\n', b'{"x%b": ', b'{"choices": "%b", "content": "%b"}']
)
@pytest.mark.parametrize("dialect", [AnthropicDialect(), OpenAiDialect(), GeminiDialect()])
def test_no_traceback_of_an_invalid_answer_holds_the_key(raw: bytes, dialect: Dialect) -> None:
    asked = model(canned(raw.replace(b"%b", KEY.encode())))
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=dialect)
    with pytest.raises(ModelError) as caught:
        run(heard, asked)
    told = "".join(format_exception(caught.value))
    assert KEY not in told
    assert "[redacted]" in told


def test_no_cause_of_an_error_holds_the_key() -> None:
    broken = ModelConnectionError("it broke")
    broken.__cause__ = broken.__context__ = ValueError(f"an odd byte in {KEY!r}")
    with pytest.raises(ModelConnectionError) as caught:
        run(heard, model(canned(b"data: ", error=broken)))
    assert KEY not in "".join(format_exception(caught.value))
    assert caught.value.__context__ is None, "reporters of errors may show it, too"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": 1}}], "x": "%b"}' % (b"x" * 100_000),
        b'{"choices": [], "x": "%b"}' % (b"x" * 100_000),
        b"{" + b"x" * 100_000,
        b"{" + b"x" * 600_000,
    ],
)
def test_an_error_that_is_kept_keeps_no_answer(
    body: bytes, *, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors live as long as their runs are kept; some answers have 64 MiB."""
    monkeypatch.setattr(remote, "ANSWER_BYTES_MAX", 500_000)
    cut = pieces_of(body, range(10_000, len(body), 10_000))
    transport = canned(*cut, headers={"content-type": "application/json"})
    asked = model(transport)
    with pytest.raises(ModelError) as caught:
        run(asked.complete, ASKED) if whole else run(heard, asked)
    del transport, cut
    held = 0
    for error in filter(None, (caught.value, caught.value.__cause__)):
        for frame, _ in walk_tb(error.__traceback__):
            if frame.f_code.co_filename.count("/orchestra/"):
                held += sum(map(held_bytes, frame.f_locals.values()))
    assert held <= 50_000


def held_bytes(value: object) -> int:
    if isinstance(value, list | tuple):
        return sum(map(held_bytes, value))
    return len(value) if isinstance(value, bytes | str) else 0


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://api.other.test:8443/v1/chat?key=sk", " to https://api.other.test:8443"),
        ("http://other.test", " to http://other.test"),
        ("http://name:sk@other.test/", ""),
        ("http://[::1", ""),
        ("/v2/chat", ""),
        ("", ""),
    ],
)
def test_a_redirect_is_not_followed_and_says_what_to_correct(
    whole: bool, status: int, location: str, where: str
) -> None:
    asked = model(canned(b"moved to sk", status=status, headers={"location": location}))
    with pytest.raises(ModelConnectionError) as caught:
        run(asked.complete, ASKED) if whole else run(heard, asked)
    error = caught.value
    assert error.message == (
        f"the provider responded with a redirect{where}, which is not followed; correct base_url"
    )
    assert (error.status, error.retryable) == (status, False)


REFUSED = msgspec.json.encode({"error": {"message": "No such key", "code": "invalid_api_key"}})


@given(st.integers(0, len(REFUSED) - 1))
def test_a_refusal_whose_body_is_cut_is_what_its_status_says(at: int) -> None:
    headers = {"retry-after": "7"}
    for status, kind, wait_s in ((401, AuthenticationError, None), (429, RateLimitError, 7)):
        for error in (
            ModelConnectionError("cut"),
            MalformedStreamError("no chunk"),
            ModelTimeoutError("idle"),
        ):
            transport = canned(REFUSED[:at], status=status, headers=headers, error=error)
            with pytest.raises(kind) as caught:
                run(heard, model(transport))
            assert (caught.value.status, caught.value.retry_after_s) == (status, wait_s)
            assert caught.value.message.startswith(REFUSED[:at].decode().strip() or "no reason")


def test_a_refusal_whose_body_stalls_is_waited_for_a_second() -> None:
    async def main() -> float:
        began = trio.current_time()
        with trio.fail_after(1e6), pytest.raises(AuthenticationError, match="Incorr"):
            await model(Stalling(canned(b'{"error": "Incorr', status=401))).complete(ASKED)
        return trio.current_time() - began

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)) == 1


def test_a_cancellation_while_a_refusal_is_read_is_one() -> None:
    async def main() -> bool:
        with trio.move_on_after(0.5) as scope:
            await model(Stalling(canned(b"no", status=401))).complete(ASKED)
        return scope.cancelled_caught

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("coding", "framing"),
    [
        (b"br", b"content-length: 2\r\n\r\n\x0b\x00"),
        (b"br", b"content-length: 0\r\n\r\n"),
        (b"gzip", b"content-length: 2\r\n\r\nno"),
        (b"identity", b"content-length: 9\r\nconnection: close\r\n\r\nno"),
    ],
)
def test_a_refusal_whose_body_cannot_be_read_is_what_its_status_says(
    coding: bytes, framing: bytes
) -> None:
    raw = b"HTTP/1.1 401 No\r\ncontent-encoding: " + coding + b"\r\n" + framing

    async def refusing(visit: Visit) -> None:
        await visit.request()
        await visit.send(raw)

    async def main() -> None:
        async with upstream(refusing) as server, open_transport() as transport:
            asked = model(transport)
            asked.endpoint = attrs.evolve(asked.endpoint, base_url=server.url.partition("?")[0])
            with pytest.raises(AuthenticationError):
                await heard(asked)
            with pytest.raises(AuthenticationError):
                await asked.complete(ASKED)

    trio.run(main)


def test_an_error_inside_of_a_stream_is_told_behind_what_came_before() -> None:
    said = b'data: {"error":{"message":"no room","type":"overloaded_error"}}\n\n'
    first = STREAMED.partition(b"\n\n")[0] + b"\n\n"
    heard_before: list[ModelEvent] = []

    async def listen() -> None:
        async with model(canned(first + said)).stream(ASKED) as reply:
            while batch := await reply.receive():
                heard_before.extend(batch)

    with pytest.raises(OverloadedError, match="openai gpt: no room"):
        run(listen)
    assert TextDelta("Be") in heard_before


def test_a_long_page_of_an_error_is_not_read_to_its_end() -> None:
    page = [b"x" * 10_000] * 100
    transport = canned(*page, status=502)
    with pytest.raises(ModelError) as caught:
        run(heard, model(transport))
    assert len(caught.value.message) < 5_000
    assert transport.left == [False]


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_BYTES_MAX", 10)
    with pytest.raises(MalformedStreamError, match="longer than 10 bytes"):
        run(model(canned(WHOLE)).complete, ASKED)


def test_what_the_dialect_has_no_words_for_is_never_sent() -> None:
    transport = canned(STREAMED)
    with pytest.raises(CapabilityError, match="openai gpt"):
        run(heard, model(transport), attrs.evolve(ASKED, top_k=3))
    assert not transport.sent
    assert not transport.left


def test_an_image_is_never_sent_to_a_model_that_sees_none() -> None:
    transport = canned(STREAMED)
    blind = model(transport, capabilities=Capabilities(vision=False))
    request = ChatRequest((Message("user", (ImagePart(b"png"),)),))
    for each in (partial(heard, blind), blind.complete):
        with pytest.raises(CapabilityError, match="openai gpt: the model reads no images"):
            run(each, request)
    assert not transport.sent
    assert not transport.left


def test_a_reader_who_leaves_closes_the_exchange() -> None:
    transport = canned(STREAMED[:90], STREAMED[90:])

    async def leave() -> None:
        async with model(transport).stream(ASKED) as reply:
            await reply.receive()

    run(leave)
    assert transport.left == [False]


def embedded(*vectors: Sequence[float]) -> bytes:
    data = [{"index": at, "embedding": list(vector)} for at, vector in enumerate(vectors)]
    return msgspec.json.encode({"data": data, "usage": {"prompt_tokens": len(data)}})


@given(st.integers(1, 7), st.integers(1, 4))
def test_many_texts_go_in_as_many_calls_as_it_takes(count: int, at_once: int) -> None:
    dialect = OpenAiDialect(attrs.evolve(OpenAiDialect().quirks, texts_max=at_once))
    sizes = [min(at_once, count - at) for at in range(0, count, at_once)]
    numbers = iter(range(count))
    bodies = [embedded(*([float(next(numbers))] for _ in range(size))) for size in sizes]
    transport = Canned([(200, [body]) for body in bodies])
    asked = model(transport)
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=dialect)
    found: Embeddings = run(asked.embed, EmbedRequest(("text",) * count))
    assert found.vectors == tuple(Vector.of([float(at)]) for at in range(count))
    assert found.usage == Usage(count, 0)
    assert len(transport.sent) == len(sizes)


def test_no_call_has_more_tokens_than_its_provider_takes() -> None:
    """OpenAI refuses more than 300,000; one text that is longer goes alone, to be refused."""
    texts = ("a" * 300_000,) * 3 + ("b" * 900_000, "c")
    transport = Canned([(200, [embedded(*[[1.0]] * size)]) for size in (2, 1, 1, 1)])
    found = run(model(transport).embed, EmbedRequest(texts))
    assert len(found.vectors) == 5
    sent = [tuple(msgspec.json.decode(each.body)["input"]) for each in transport.sent]
    assert sent == [texts[:2], texts[2:3], texts[3:4], texts[4:]]


def scored(*scores: float) -> bytes:
    return msgspec.json.encode([{"index": at, "score": each} for at, each in enumerate(scores)])


def test_more_texts_than_a_server_ranks_at_once_go_in_several_calls() -> None:
    """Text Embeddings Inference takes 32 by default, and scores each by itself."""
    bodies = [scored(*range(32)), scored(*[0.5] * 17, 31.5)]
    transport = Canned([(200, [body]) for body in bodies])
    asked = model(transport)
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=OpenAiDialect(TEI))
    texts = tuple(f"text {at}" for at in range(50))
    found: Ranking = run(asked.rerank, RerankRequest("q", texts, top=3))
    assert found.results == (Ranked(49, 31.5), Ranked(31, 31.0), Ranked(30, 30.0))
    sent = [tuple(msgspec.json.decode(each.body)["texts"]) for each in transport.sent]
    assert sent == [texts[:32], texts[32:]]


def test_a_ranking_that_fails_in_its_second_call_has_begun() -> None:
    """So limits do not refund it as one that was never sent."""
    transport = Canned([(200, [scored(*range(32))]), (503, [b"{}"])])
    asked = model(transport)
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=OpenAiDialect(TEI))
    with pytest.raises(OverloadedError) as caught:
        run(asked.rerank, RerankRequest("q", ("text",) * 33))
    assert caught.value.begun
    assert caught.value.model == asked.endpoint.model


def test_a_sum_in_which_the_usage_of_a_call_is_missing_is_not_exact() -> None:
    silent = msgspec.json.encode({"data": [{"index": 0, "embedding": [1.0]}]})
    asked = model(Canned([(200, [embedded([1.0])]), (200, [silent])]))
    dialect = OpenAiDialect(attrs.evolve(OpenAiDialect().quirks, texts_max=1))
    asked.endpoint = attrs.evolve(asked.endpoint, dialect=dialect)
    found: Embeddings = run(asked.embed, EmbedRequest(("a", "b")))
    assert found.usage == Usage(1, 0, Certainty.PARTIAL)


def test_a_vector_too_few_is_an_error() -> None:
    with pytest.raises(MalformedStreamError, match="the answer has 1 vectors for 2 texts"):
        run(model(canned(embedded([1.0]))).embed, EmbedRequest(("a", "b")))


def test_its_capabilities_are_those_of_its_endpoint() -> None:
    known = Capabilities(vision=True)
    assert model(canned(), capabilities=known).capabilities == known


@pytest.mark.parametrize("effort", ["high", "none"])
@pytest.mark.parametrize("known", [True, False, None])
def test_an_effort_that_is_no_order_is_asked_of_who_may_make_it(
    effort: ReasoningEffort, known: bool | None
) -> None:
    endpoint = model(canned(), capabilities=Capabilities(reasoning=known)).endpoint
    ordered = attrs.evolve(ASKED, reasoning_effort=effort)
    assert b"reasoning_effort" in endpoint.asked(ordered).body
    able = attrs.evolve(ordered, effort_if_able=True)
    assert (b"reasoning_effort" in endpoint.asked(able).body) is (known is not False)


def test_nothing_shows_the_key() -> None:
    assert KEY not in repr(model(canned()).endpoint)
