"""One HTTP/1.1 exchange over a connection, and its time limits.

Rules of the file: when a reader stops before the end of a response, the connection is closed at
once and its slot is freed, without waiting. So this also works where waiting is impossible: after a
cancellation, or when a coroutine is garbage-collected. A connection is kept for reuse only if its
response has been read to the end.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias, TypeVar

import trio

from orchestra.accounts import UNSENT
from orchestra.errors import ModelConnectionError, ModelError, ModelTimeoutError
from orchestra.protocols import HttpReply, Timeouts
from orchestra.providers.connections.heads import Head
from orchestra.providers.connections.http1 import Exchange
from orchestra.providers.connections.line import READ_BYTES, Line
from orchestra.providers.connections.reply import OK
from orchestra.providers.connections.watch import Wait, Watch

T = TypeVar("T")
Release: TypeAlias = Callable[[Line | None, float | None], None]
"""Returns a connection to the pool, to be kept idle for at most this many seconds (None if the
server sets no limit), and frees its slot. If the connection is None, only the slot is freed.
"""
_SLACK_S = 0.01
"""The most by which the limit of a response's first byte may be exceeded."""
_WHAT = {
    "connect_s": "there was no connection",
    "first_byte_s": "the response did not begin",
    "idle_s": "no more of the response arrived",
    "total_s": "the response was not complete",
}


class Bounds:
    """The time limits of one request, which start when this is created."""

    __slots__ = ("timeouts", "total_at", "where")

    def __init__(self, timeouts: Timeouts, where: str) -> None:
        self.where = where
        self.timeouts = timeouts
        self.total_at = _after(timeouts.total_s)

    async def connecting(self, at: float, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job`, at most until time `at`, the deadline for connecting.

        A cancellation is marked as `UNSENT`: the request was not sent.

        Raises:
            ModelTimeoutError: `connect_s` or `total_s` passed.
        """
        try:
            return await self._within("connect_s", at, job)
        except trio.Cancelled as cancelled:
            cancelled.add_note(UNSENT)
            raise

    async def beginning(self, at: float, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job`, at most until time `at`, the deadline for the response's first byte.

        Raises:
            ModelTimeoutError: `first_byte_s` or `total_s` passed.
        """
        return await self._within("first_byte_s", at, job)

    async def going_on(self, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job` for at most `idle_s`. Raises ModelTimeoutError if that or `total_s` passes."""
        return await self._within("idle_s", _after(self.timeouts.idle_s), job)

    def connect_at(self) -> float:
        """The deadline for connecting, if connecting begins now."""
        return _after(self.timeouts.connect_s)

    def begin_at(self) -> float:
        """The deadline for the first byte of the response, if the request is sent now."""
        return _after(self.timeouts.first_byte_s)

    def binding(self, name: str, at: float) -> tuple[str, float]:
        """The limit that ends first, and when: the one of this name, at `at`, or `total_s`."""
        return ("total_s", self.total_at) if self.total_at <= at else (name, at)

    async def _within(self, name: str, at: float, job: Callable[[], Awaitable[T]]) -> T:
        name, at = self.binding(name, at)
        if at == math.inf:
            return await job()
        with trio.CancelScope(deadline=at):
            return await job()
        raise self.late(name)

    def late(self, name: str) -> ModelTimeoutError:
        """The error to raise when the time limit of this name (a key of `Timeouts`) has passed."""
        limit_s = getattr(self.timeouts, name)
        return ModelTimeoutError(
            f"{_WHAT[name]} within {name} = {limit_s:g} from {self.where}; "
            "ask another model, or have the limit raised",
            code=name,
        )


class Response(HttpReply):
    """A response whose head has arrived and whose body is still arriving."""

    __slots__ = (
        "_bounds",
        "_exchange",
        "_left",
        "_line",
        "_ready",
        "_release",
        "_token",
        "_wait",
        "head",
    )

    def __init__(
        self, line: Line, exchange: Exchange, body: bytes, bounds: Bounds, release: Release
    ) -> None:
        self.head = exchange.final_head
        self._line: Line = line
        self._left = False
        self._exchange = exchange
        self._ready = body
        self._bounds = bounds
        self._release = release
        self._wait: Wait | None = None
        self._token = trio.lowlevel.current_trio_token()

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.head.named()  # built on demand, since the response object lives much longer

    @property
    def ended(self) -> bool:
        """Whether all of the response has arrived, and its body has been received."""
        return self._exchange.done and not self._ready

    def forget_headers(self) -> None:
        """Free the memory of the headers; `headers` is empty from now on."""
        self.head = self._exchange.head = Head(self.head.status, ())

    async def receive(self) -> bytes:
        """The part of the body that has arrived, waiting for some; empty after the last byte.

        Raises:
            ModelTimeoutError: `idle_s` or `total_s` passed.
            ModelConnectionError: the connection broke before the body's end, or `leave` was called.
            MalformedStreamError: the bytes are not HTTP.
        """
        line, exchange, bounds, data = self._line, self._exchange, self._bounds, self._ready
        if data:
            self._ready = b""
        while not (data or exchange.done):
            if self._left:  # then another request may be using the connection
                raise left_error(bounds.where)
            try:
                wait = self._wait or self._watched()
                if wait is None or not wait.begin(bounds.total_at):
                    got = await bounds.going_on(line.receive)
                else:
                    try:
                        got = await line.receive()
                    finally:
                        wait.since_s = math.inf
                data = exchange.feed(got) if got else exchange.end()
            except ModelError:  # caught before OSError, since our timeouts are OSErrors, too
                self.leave(broken=True)
                raise
            except (OSError, trio.ClosedResourceError) as error:
                self.leave(broken=True)
                if self._wait is not None and self._wait.late:
                    raise bounds.late("idle_s") from None
                raise _broken(bounds.where, error) from error
        return data

    def _watched(self) -> Wait | None:
        """Start to watch the reads of this response, if they have a time limit, and if possible."""
        idle_s = self._bounds.timeouts.idle_s
        if idle_s is not None:
            self._wait = Watch.over(self._line, idle_s)
        return self._wait

    def leave(self, *, broken: bool = False) -> None:
        """Return the connection to the pool if the response is complete, else close it at once.

        A reader that stops after the content leaves the last bytes of the framing unread: if these
        bytes have already arrived, the response counts as complete. With `broken`, the connection
        is always closed. A second call does nothing.
        """
        if self._left:
            return
        self._left = True
        if self._wait is not None:
            self._wait.leave()
        if self._finished(broken=broken):
            self._line.wake()
            self._release(self._line, self._exchange.keep_s)
        else:
            self._line.close()
            self._release(None, 0.0)

    def __del__(self) -> None:
        if self._left:
            return
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self.leave(broken=True)
            return
        # The garbage collector runs in any thread, but only Trio's thread can wake Trio's tasks.
        try:
            self._token.run_sync_soon(partial(self.leave, broken=True))
        except trio.RunFinishedError:
            self._line.close()

    def _finished(self, *, broken: bool) -> bool:
        exchange = self._exchange
        try:
            if not (broken or exchange.done) and (data := self._line.receive_nowait()):
                exchange.feed(data)
        except (OSError, ModelError):  # nobody reads this response any more
            return False
        return exchange.reusable


async def ask(line: Line, exchange: Exchange, bounds: Bounds) -> bytes:
    """Send the request, wait for the response's head, and return the bytes of the body after it.

    Raises:
        ModelTimeoutError: `first_byte_s`, `idle_s` or `total_s` passed.
        ModelConnectionError: the connection broke.
        MalformedStreamError: the received bytes are not HTTP.
    """
    at, read = bounds.begin_at(), partial(_received, line, bounds.where)
    request, exchange.request = exchange.request, b""
    try:
        await trio.lowlevel.checkpoint_if_cancelled()  # a cancelled task must not send a request
    except trio.Cancelled as cancelled:
        cancelled.add_note(UNSENT)
        raise
    body = b""
    if rest := _begun(line, request):
        body = await bounds.beginning(at, partial(_ended, line, rest, exchange, read))
    while exchange.head is None:
        if exchange.ahead:
            data = await bounds.going_on(read)
        else:
            data = await _first(line, bounds, at, read)
        body = _fed(exchange, data)
    return body


async def _first(
    line: Line, bounds: Bounds, at: float, read: Callable[[], Awaitable[bytes]]
) -> bytes:
    """The first bytes of a response. Its limit has just begun, so mostly it can be watched."""
    name, ends_at = bounds.binding("first_byte_s", at)
    if ends_at == math.inf:
        return await read()
    wait = Watch.over(line, getattr(bounds.timeouts, name))
    if wait is None:
        return await bounds.beginning(at, read)
    try:
        if not wait.begin(ends_at + _SLACK_S):
            return await bounds.beginning(at, read)
        return await read()
    except ModelConnectionError:
        if wait.late:
            raise bounds.late(name) from None
        raise
    finally:
        wait.leave()


# A server that refuses a long request may stop reading it, or close the connection. Its response
# gives the reason, so errors of sending are ignored, and reading shows whether there is a response.


def _begun(line: Line, request: bytes) -> memoryview:
    """Send as much of a request as is possible without waiting, and return the rest."""
    try:
        return line.send_nowait(request)
    except OSError:
        return memoryview(b"")


async def _ended(
    line: Line, rest: memoryview, exchange: Exchange, read: Callable[[], Awaitable[bytes]]
) -> bytes:
    """Send the rest of a request, and return what was received of the response's body meanwhile.

    An error response or a complete response stops the sending. After that, the connection cannot be
    reused.
    """
    body, broken = b"", None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flushed, line, rest, nursery.cancel_scope)
        try:
            while _matters(exchange) and len(body) < READ_BYTES:
                body += _fed(exchange, await read())
        except ModelError as error:  # raised here, it would arrive in an ExceptionGroup
            broken = error
        if broken is not None or not _matters(exchange):
            exchange.keep_s = 0.0
            nursery.cancel_scope.cancel()
    if broken is not None:
        raise broken
    return body


def _matters(exchange: Exchange) -> bool:
    """Whether sending the rest of the request can still change the response."""
    return exchange.head is None or (exchange.head.status in OK and not exchange.done)


async def _flushed(line: Line, rest: memoryview, reading: trio.CancelScope) -> None:
    with suppress(OSError):
        await line.flush(rest)
    reading.cancel()


def _fed(exchange: Exchange, data: bytes) -> bytes:
    """The part of the body in these bytes; empty bytes mean the end of the connection."""
    return exchange.feed(data) if data else exchange.end()


async def _received(line: Line, where: str) -> bytes:
    try:
        return await line.receive()
    except (OSError, trio.ClosedResourceError) as error:
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> ModelConnectionError:
    if isinstance(error, OSError):
        return ModelConnectionError(f"the connection to {where} broke: {error}", code="cut")
    return left_error(where)


def left_error(where: str) -> ModelConnectionError:
    """The error for reading from a response after `leave`, or after a failure."""
    return ModelConnectionError(
        f"the response from {where} cannot be read any further: it was abandoned, or it failed",
        retryable=False,
        code="cut",
    )


def _after(limit_s: float | None) -> float:
    return math.inf if limit_s is None else trio.current_time() + limit_s
