"""One HTTP/1.1 exchange over a connection, with the bounds on how long it may take.

Rules of the file: whatever ends an answer before its end closes the connection at once and
gives back its place, without waiting; and so it does that also where nobody can wait, under a
cancellation or when a coroutine is thrown away. A connection is kept only where the answer has
been read to its end.
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
Back: TypeAlias = Callable[[Line | None, float | None], None]
"""Takes a connection back, to be kept for so many seconds (None: as long as we like); or, with
no connection, only its place."""
_WHAT = {
    "connect_s": "there was no connection",
    "first_byte_s": "the answer did not begin",
    "idle_s": "nothing more of the answer came",
    "total_s": "the answer was not whole",
}


class Bounds:
    """How long a request may take, from now on."""

    __slots__ = ("timeouts", "total_at", "where")

    def __init__(self, timeouts: Timeouts, where: str) -> None:
        self.where = where
        self.timeouts = timeouts
        self.total_at = _after(timeouts.total_s)

    async def connecting(self, at: float, job: Callable[[], Awaitable[T]]) -> T:
        """Do it until there has to be a connection. Raises ModelTimeoutError."""
        try:
            return await self._within("connect_s", at, job)
        except trio.Cancelled as cancelled:
            cancelled.add_note(UNSENT)
            raise

    async def beginning(self, at: float, job: Callable[[], Awaitable[T]]) -> T:
        """Do it until the answer has to have begun. Raises ModelTimeoutError."""
        return await self._within("first_byte_s", at, job)

    async def going_on(self, job: Callable[[], Awaitable[T]]) -> T:
        """Do it in `idle_s`. Raises ModelTimeoutError."""
        return await self._within("idle_s", _after(self.timeouts.idle_s), job)

    def connect_at(self) -> float:
        """Until when there has to be a connection that is wished for now."""
        return _after(self.timeouts.connect_s)

    def begin_at(self) -> float:
        """Until when an answer has to begin that is asked for now."""
        return _after(self.timeouts.first_byte_s)

    async def _within(self, name: str, at: float, job: Callable[[], Awaitable[T]]) -> T:
        if self.total_at <= at:
            name, at = "total_s", self.total_at
        if at == math.inf:
            return await job()
        with trio.CancelScope(deadline=at):
            return await job()
        raise self.late(name)

    def late(self, name: str) -> ModelTimeoutError:
        """The error that says that a bound of this name has passed."""
        limit_s = getattr(self.timeouts, name)
        return ModelTimeoutError(
            f"{_WHAT[name]} within {name} = {limit_s:g} from {self.where}; "
            "ask another model, or raise the limit",
            code=name,
        )


class Answering(HttpReply):
    """The answer to a request, whose head is here and whose body is arriving."""

    __slots__ = ("_back", "_bounds", "_exchange", "_left", "_line", "_ready", "_wait", "head")

    def __init__(
        self, line: Line, exchange: Exchange, body: bytes, bounds: Bounds, back: Back
    ) -> None:
        self.head = exchange.answer
        self._line: Line = line
        self._left = False
        self._exchange = exchange
        self._ready = body
        self._bounds = bounds
        self._back = back
        self._wait: Wait | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.head.status

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; of one that came twice, both, with a comma between."""
        return self.head.named()  # made when asked for: an answer is read for much longer

    def forget_headers(self) -> None:
        """Keep no headers any more."""
        self.head = self._exchange.head = Head(self.head.status, ())

    async def receive(self) -> bytes:
        """All of the body that is here, waiting for something; empty after the last byte.

        Raises:
            ModelTimeoutError: `idle_s` or `total_s` passed.
            ModelConnectionError: the connection broke before the body's end, or has been left.
            MalformedStreamError: it is not HTTP.
        """
        line, exchange, bounds, data = self._line, self._exchange, self._bounds, self._ready
        if data:
            self._ready = b""
        while not (data or exchange.done):
            if self._left:  # then the connection may be somebody else's by now
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
            except ModelError:  # before OSError, which a timeout is one of
                self.leave(broken=True)
                raise
            except (OSError, trio.ClosedResourceError) as error:
                self.leave(broken=True)
                if self._wait is not None and self._wait.late:
                    raise bounds.late("idle_s") from None
                raise _broken(bounds.where, error) from error
        return data

    def _watched(self) -> Wait | None:
        """Have its reads watched, where there is a limit of each."""
        idle_s = self._bounds.timeouts.idle_s
        if idle_s is not None:
            self._wait = Watch.over(self._line, idle_s)
        return self._wait

    def leave(self, *, broken: bool = False) -> None:
        """Give the connection back where the answer is at its end, or close it at once.

        A reader that has seen all it wants leaves with the last few bytes of the framing
        unread: where they are here already, the connection is kept all the same. `broken`, it
        is closed whatever is there. A second time does nothing.
        """
        if self._left:
            return
        self._left = True
        if self._wait is not None:
            self._wait.leave()
        if self._finished(broken=broken):
            self._line.wake()
            self._back(self._line, self._exchange.keep_s)
        else:
            self._line.close()
            self._back(None, 0.0)

    def __del__(self) -> None:
        self.leave(broken=True)

    def _finished(self, *, broken: bool) -> bool:
        exchange = self._exchange
        try:
            if not (broken or exchange.done) and (data := self._line.receive_nowait()):
                exchange.feed(data)
        except (OSError, ModelError):  # nobody wants this answer any more
            return False
        return exchange.reusable


async def ask(line: Line, exchange: Exchange, bounds: Bounds) -> bytes:
    """Send the request, wait for the answer's head, and give what came of the body with it.

    Raises:
        ModelTimeoutError: `first_byte_s`, `idle_s` or `total_s` passed.
        ModelConnectionError: the connection broke.
        MalformedStreamError: what came is not HTTP.
    """
    at, read = bounds.begin_at(), partial(_received, line, bounds.where)
    request, exchange.request = exchange.request, b""
    try:
        await trio.lowlevel.checkpoint_if_cancelled()  # who has been cancelled must not ask
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
            data = await bounds.beginning(at, read)
        body = _fed(exchange, data)
    return body


# A server that refuses a long request may read no more of it, or close, and its answer says why:
# whether there is one, the reading tells.


def _begun(line: Line, request: bytes) -> memoryview:
    """Send what goes at once of a request, and give the rest."""
    with suppress(OSError):
        return line.send_nowait(request)
    return memoryview(b"")


async def _ended(
    line: Line, rest: memoryview, exchange: Exchange, read: Callable[[], Awaitable[bytes]]
) -> bytes:
    """Send the rest of a request, and give what came of an answer's body meanwhile.

    A refusal ends the sending, and so does an answer that is whole; the connection is good for
    nothing more then.
    """
    body, broken = b"", None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flushed, line, rest, nursery.cancel_scope)
        try:
            while _matters(exchange) and len(body) < READ_BYTES:
                body += _fed(exchange, await read())
        except ModelError as error:  # raised here it would come as a group
            broken = error
        if broken is not None or not _matters(exchange):
            exchange.keep_s = 0.0
            nursery.cancel_scope.cancel()
    if broken is not None:
        raise broken
    return body


def _matters(exchange: Exchange) -> bool:
    """Whether the rest of a request may make a difference to the answer."""
    return exchange.head is None or (exchange.head.status in OK and not exchange.done)


async def _flushed(line: Line, rest: memoryview, reading: trio.CancelScope) -> None:
    with suppress(OSError):
        await line.flush(rest)
    reading.cancel()


def _fed(exchange: Exchange, data: bytes) -> bytes:
    """What these bytes hold of the body; none are the connection's end."""
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
    """What reading on comes to where an answer has been left before its end, or has failed."""
    return ModelConnectionError(
        f"the answer from {where} has been left or has failed: nothing more comes of it",
        retryable=False,
        code="cut",
    )


def _after(limit_s: float | None) -> float:
    return math.inf if limit_s is None else trio.current_time() + limit_s
