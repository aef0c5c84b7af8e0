"""A model behind a provider's API: combines a dialect, credentials and a transport.

Rules of the file: every raised error carries the provider, the model and the provider's request id
if there is one, and contains no key. Leaving an answer early closes its connection at once.
"""

from __future__ import annotations

import inspect
import time
from contextlib import AbstractAsyncContextManager, suppress
from functools import lru_cache, partial
from traceback import walk_tb
from types import TracebackType
from typing import Self

import attrs
import trio

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.codecs.dialect import Call, Decoder, Dialect
from orchestra.codecs.framing.frames import BEFORE_JSON
from orchestra.codecs.prompt_cache import with_marks
from orchestra.codecs.reasoning_tags import ReasoningTags, TaggedDecoder, untagged
from orchestra.computed import computed
from orchestra.errors import (
    InvalidRequestError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
    TruncatedStreamError,
)
from orchestra.policies.answers.accounting import note_begun
from orchestra.policies.batches import BatchSize, total_usage
from orchestra.policies.requests.needs import fitting, is_large
from orchestra.protocols import HttpReply, HttpRequest, Model, Timeouts, Transport
from orchestra.providers.connections.reply import read
from orchestra.providers.credentials import Credentials
from orchestra.providers.refused import refuse
from orchestra.rankings import AnyRequest, Ranking, RerankRequest, best, joined, parted
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Extras,
    ModelEvent,
    Vector,
)

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""The most bytes of an unstreamed answer: 2,048 vectors of 3,072 numbers in base64 are 34 MB."""
BODY_END_S = 0.01
"""Seconds to wait for the end of the body after the answer is complete."""
_GOES_ON = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a model is, and how requests to it are made.

    `provider` is the provider's name in errors and telemetry. `extras` are added to every request;
    the extras of the request itself take precedence. With `prompt_cache`, marks for the provider's
    prompt cache are added to each request that has none. `reasoning_tags` are those in the text of
    answers, if the server leaves its reasoning there.
    """

    provider: str
    model: str
    base_url: str
    dialect: Dialect
    credentials: Credentials
    timeouts: Timeouts = Timeouts()
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    capabilities: Capabilities = Capabilities()
    extras: Extras = attrs.field(factory=dict)
    prompt_cache: bool = False
    reasoning_tags: ReasoningTags | None = None

    def request(self, call: Call, *, streamed: bool) -> HttpRequest:
        """The call as an HTTP request, without credentials.

        If the answer is not streamed, `first_byte_s` does not apply: its first byte comes when the
        answer is complete, so `total_s` limits it.
        """
        timeouts = self.timeouts if streamed else _of_whole(self.timeouts)
        url, own = self.base_url.rstrip("/") + call.path, {name.lower() for name, _ in self.headers}
        headers = (*(each for each in call.headers if each[0].lower() not in own), *self.headers)
        return HttpRequest(url, call.body, headers, timeouts=timeouts)

    def asked(self, request: AnyRequest, *, stream: bool = False) -> Call:
        """Encode a request in the provider's dialect.

        Raises:
            InvalidRequestError: the dialect cannot express the request, the model cannot read it,
                or a text contains half a character (a lone surrogate).
        """
        if self.extras:
            own = request.extras
            merged = {name: {**ours, **own.get(name, {})} for name, ours in self.extras.items()}
            request = attrs.evolve(request, extras={**own, **merged})
        try:
            if isinstance(request, EmbedRequest):
                return self.dialect.ask_embeddings(self.model, request)
            if isinstance(request, RerankRequest):
                return self.dialect.ask_ranking(self.model, request)
            fit = fitting(request, self.capabilities)
            marked = with_marks(fit) if self.prompt_cache else fit
            return self.dialect.ask(self.model, marked, stream=stream)
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"the request contains half of a character, {error.object[error.start]!r}, which "
                'cannot be sent; repair the text: text.encode(errors="replace").decode()'
            ) from None  # the cause would keep the whole text in memory

    def decoder(self) -> Decoder:
        """A decoder for one streamed answer."""
        found, tags = self.dialect.decoder(), self.reasoning_tags
        return found if tags is None else TaggedDecoder(found, tags)

    def decode(self, body: bytes) -> list[ModelEvent]:
        """The events of a whole answer; raises as `Dialect.decode`."""
        found, tags = self.dialect.decode(body), self.reasoning_tags
        return found if tags is None else untagged(found, tags)

    def located(self, error: ModelError) -> ModelError:
        """Add provider and model to an error, and remove keys and frames from it and its cause."""
        redact = self.credentials.redact
        error.provider, error.model = error.provider or self.provider, error.model or self.model
        error.message = redact(error.message)
        error.code, error.request_id = redact(error.code), redact(error.request_id)
        error.args = (error.message,)
        _clear_frames(error)
        cause, error.__context__ = error.__cause__, None
        if cause is not None:
            _clear_frames(cause)
            cause.__context__ = None  # an error of an earlier attempt to read the answer
            error.__cause__ = cause if redact(str(cause)) == str(cause) else None
        return error


def _clear_frames(error: BaseException) -> None:
    """Clear the frames in an error's traceback, which may keep a whole answer in memory.

    An error lives as long as its run is kept, or until the next garbage collection, and an answer
    may have 64 MiB. Frames of coroutines are not cleared, since they may continue; they hold no
    answers.
    """
    for frame, _ in walk_tb(error.__traceback__):
        if not frame.f_code.co_flags & _GOES_ON:
            with suppress(RuntimeError):  # the frame is running
                frame.clear()


@lru_cache(maxsize=64)
def _of_whole(timeouts: Timeouts) -> Timeouts:
    return attrs.evolve(timeouts, first_byte_s=None)


async def _asked(endpoint: Endpoint, request: AnyRequest, **how: bool) -> Call:
    return await computed(partial(endpoint.asked, request, **how), large=is_large(request))


class RemoteModel(Model):
    """A `Model` at an endpoint, reached through a transport. It keeps no state between calls."""

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self.endpoint = endpoint
        self._transport = transport

    @property
    def capabilities(self) -> Capabilities:
        return self.endpoint.capabilities

    def stream(self, request: ChatRequest) -> RemoteAnswer:
        """Send a request; the context is entered when the provider has accepted it.

        Raises:
            ModelError: on entry, if the request fails or is refused.
        """
        return RemoteAnswer(self.endpoint, self._transport, request)

    async def complete(self, request: ChatRequest) -> Completion:
        try:
            call = await _asked(self.endpoint, request)
            return Completion.of(self.endpoint.decode(await self._ask(call)))
        except ModelError as error:
            raise self.endpoint.located(error) from error.__cause__

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order.

        If the provider limits the texts of a call, several calls are made, one after the other.
        """
        dialect, vectors, usages = self.endpoint.dialect, list[Vector](), list[Usage | None]()
        try:
            for texts in batch_size(dialect).batches(request.texts):
                call = await _asked(self.endpoint, attrs.evolve(request, texts=texts))
                found = dialect.decode_embeddings(await self._ask(call))
                if len(found.vectors) != len(texts):
                    raise MalformedStreamError(
                        f"the answer has {len(found.vectors)} vectors for {len(texts)} texts"
                    )
                vectors += found.vectors
                usages.append(found.usage)
        except ModelError as error:
            raise self.endpoint.located(error) from error.__cause__
        return Embeddings(tuple(vectors), total_usage(usages), self.endpoint.model)

    async def rerank(self, request: RerankRequest) -> Ranking:
        """The most relevant texts, best first.

        They are sent in one call, which the provider limits; or, where each text is scored by
        itself, in several, one after the other.
        """
        dialect, answers = self.endpoint.dialect, list[Ranking]()
        parts = parted(request, dialect.ranked_max)
        try:
            for part in parts:
                call = await _asked(self.endpoint, part)
                found = dialect.decode_ranking(await self._ask(call))
                answers.append(attrs.evolve(found, results=best(part, found.results)))
        except ModelError as error:
            if answers:
                note_begun(error)
            raise self.endpoint.located(error) from error.__cause__
        if len(answers) > 1:
            usage = total_usage([each.usage for each in answers])
            found = Ranking(joined(request, zip(parts, answers, strict=True)), usage)
        else:
            (found,) = answers
        return attrs.evolve(found, model=self.endpoint.model)

    async def _ask(self, call: Call) -> bytes:
        async with _exchange(self.endpoint, self._transport, call, streamed=False) as reply:
            await refuse(self.endpoint.dialect, reply)
            return await read(reply, ANSWER_BYTES_MAX)


class RemoteAnswer:
    """One streamed answer of a provider: a context manager that returns itself as the reply."""

    __slots__ = (
        "_decoder",
        "_ended",
        "_endpoint",
        "_exchange",
        "_reply",
        "_request",
        "_transport",
        "_whole",
    )

    def __init__(self, endpoint: Endpoint, transport: Transport, request: ChatRequest) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._request = request
        self._exchange: AbstractAsyncContextManager[HttpReply] | None = None
        self._reply: HttpReply | None = None
        self._decoder: Decoder = endpoint.decoder()
        self._whole = False
        self._ended = False

    async def __aenter__(self) -> Self:
        endpoint = self._endpoint
        try:
            call = await _asked(endpoint, self._request, stream=True)
            exchange = _exchange(endpoint, self._transport, call, streamed=True)
            reply = await exchange.__aenter__()
            try:
                await refuse(endpoint.dialect, reply)
            except BaseException as error:
                await exchange.__aexit__(type(error), error, error.__traceback__)  # noqa: ASYNC102 - a transport closes without waiting
                raise
        except ModelError as error:
            raise endpoint.located(error) from error.__cause__
        self._exchange, self._reply, self._whole = exchange, reply, _may_be_whole(reply)
        reply.forget_headers()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        assert self._exchange is not None, "entered"
        await self._exchange.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - a transport closes without waiting

    async def receive(self) -> tuple[ModelEvent, ...]:
        """The events since the last call, waiting for some; empty at the end.

        Raises:
            ModelError: the answer failed, or was cut.
        """
        reply, decoder = self._reply, self._decoder
        assert reply is not None, "entered"
        try:
            while not self._ended:
                try:
                    data = await (self._body_end() if decoder.done else reply.receive())
                except (ModelConnectionError, ModelTimeoutError) as error:
                    events = self._left_off(error)
                else:
                    whole = self._whole and self._in_one_piece(data)
                    events = await self._whole_answer(data) if whole else self._decoded(data)
                if events:
                    return tuple(events)
        except ModelError as error:
            self._ended = True
            raise self._endpoint.located(error) from error.__cause__
        return ()

    def _decoded(self, data: bytes) -> list[ModelEvent]:
        """The events in these bytes; empty bytes mean the end of the body, and the last events."""
        if data:
            return self._decoder.feed(data)
        self._ended = True
        return self._decoder.close()

    async def _body_end(self) -> bytes:
        """Read the end of the body, so that the connection can be reused; always returns b"".

        Waits at most `BODY_END_S`. Errors are ignored, since the answer is already complete.
        """
        assert self._reply is not None, "entered"
        if not self._reply.ended:  # mostly, it has come together with the last event
            with suppress(ModelError), trio.move_on_after(BODY_END_S):
                await self._reply.receive()
        return b""

    def _in_one_piece(self, begun: bytes) -> bool:
        """Whether the answer is one JSON document, although a stream was requested.

        `begun` is its beginning. Blanks do not decide: some servers send them before the answer.
        """
        start = begun.lstrip(BEFORE_JSON)
        self._whole = not start
        return start.startswith(b"{")

    async def _whole_answer(self, begun: bytes) -> list[ModelEvent]:
        """Read an answer that is not streamed to its end, and return its events.

        Of JSON lines with a wrong content type, return those of the first line when it arrived.
        """
        assert self._reply is not None, "entered"
        events: list[ModelEvent] = []

        def is_line(data: bytes) -> bool:
            events.extend(self._decoder.feed(data))
            return bool(events)

        body = await read(self._reply, ANSWER_BYTES_MAX, begun, is_line)
        if events:
            return events
        self._ended = True
        try:
            return self._endpoint.decode(body)
        except MalformedStreamError as error:
            try:
                return self._decoder.close()
            except (MalformedStreamError, TruncatedStreamError):
                raise error from error.__cause__
        finally:
            body = b""  # the raised error keeps this frame in memory

    def _left_off(self, error: ModelError) -> list[ModelEvent]:
        """The last events of an answer whose body was cut or has stalled.

        An answer with a stop reason is complete: some servers never send the end (`[DONE]`),
        whether or not they close the connection.

        Raises:
            ModelError: the given `error`, if the answer has no stop reason.
        """
        self._ended = True
        try:
            return self._decoder.close()
        except TruncatedStreamError:
            raise error from error.__cause__


def _exchange(
    endpoint: Endpoint, transport: Transport, call: Call, *, streamed: bool
) -> AbstractAsyncContextManager[HttpReply]:
    request = endpoint.request(call, streamed=streamed)
    return transport.send(endpoint.credentials.sign(request, time.time()))


def _may_be_whole(reply: HttpReply) -> bool:
    return "ndjson" not in reply.headers.get("content-type", "").lower()  # others begin with no {


def batch_size(dialect: Dialect) -> BatchSize:
    """The limits of one embedding call in a dialect."""
    return BatchSize(dialect.texts_max, dialect.texts_tokens_max)
