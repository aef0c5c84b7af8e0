"""A connection pool: keeps idle connections, and limits how many each origin may have.

The most recently returned connection is used first, so that the others expire and are closed. The
cost of each operation does not depend on the number of connections. Rules of the file: the pool has
no task of its own, so expired connections are found when others are taken or returned; a connection
with unread bytes is not reused.
"""

from __future__ import annotations

import ssl
from collections import deque
from functools import partial

import attrs
import trio

from orchestra.errors import ModelConnectionError
from orchestra.policies.answers.accounting import note_begun
from orchestra.protocols import Timeouts
from orchestra.providers.connections.connection import Bounds, Release, Response, ask
from orchestra.providers.connections.http1 import Exchange, Origin, Outgoing
from orchestra.providers.connections.line import Line, connect, tls_context
from orchestra.providers.connections.unreached import unreached
from orchestra.providers.connections.watch import Watch

SWEEP_S = 1.0


@attrs.frozen(kw_only=True)
class HttpLimits:
    """The limits of a transport: connections, and the size of a response."""

    head_bytes: int = 64 * 1024
    """The most bytes of a response's head; may be exceeded by less than one read (64 KiB). Through
    a proxy, httpx's limit of 100 KiB applies instead.
    """
    body_bytes: int = 256 * 1024 * 1024
    """The most bytes of a decompressed body: 2,048 vectors of 3,072 numbers in JSON are about 75
    MB.
    """
    keep_s: float = 30.0
    """How long an idle connection is kept, in seconds; shorter if the server says so."""
    idle_max: int = 256
    """The most idle connections of one origin."""
    connections_max: int | None = None
    """The most connections to one origin; further requests wait, in order. Does not apply to
    requests through a proxy.
    """
    waiting_max: int = 1_000
    """The most requests that wait for a connection to one origin; further ones are refused."""


@attrs.define(eq=False)
class _Place:
    """The connections of one origin."""

    origin: Origin
    slots: trio.CapacityLimiter | None
    idle: deque[tuple[Line, float, float]] = attrs.field(factory=deque)
    """Idle connections, with the times of their return and their expiry; last returned, last."""
    waiting: int = 0


class Pool:
    """Sends requests over pooled connections; call `close` at the end."""

    def __init__(self, limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._limits = limits or HttpLimits()
        self._tls = tls
        self._places: dict[Origin, _Place] = {}
        self._swept_at = 0.0
        self.closed = False

    async def ask(self, request: Outgoing, timeouts: Timeouts) -> Response:
        """Send a request, and return the response once its head has arrived.

        If a reused connection breaks before the first byte of the response, the request is sent
        once more, over a new connection.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s`, `idle_s` or `total_s` passed.
            ModelConnectionError: no connection could be made (`code` is `connect`; nothing was
                sent, unless the error is marked as `begun` because a reused connection broke), too
                many requests wait for a connection (`waiting_max`), or the connection broke
                (`cut`).
            MalformedStreamError: the response is not HTTP.
        """
        if self.closed:
            raise ModelConnectionError(
                f"cannot send a request to {request.origin}: the transport is closed",
                code="connect",
            )
        if self._tls is None and request.origin.scheme == "https":
            # Reading the system's authorities takes 20 ms and more: this is done once, on demand,
            # and does not count towards the provider's time limit.
            self._tls = tls_context()
        bounds = Bounds(timeouts, str(request.origin))
        connect_at = bounds.connect_at()
        place, slot = self._place(request.origin), object()
        if place.slots is not None:
            await bounds.connecting(connect_at, partial(self._enter, place, place.slots, slot))
        release = partial(self._release, place, slot)
        try:
            return await self._sent(request, place, bounds, connect_at, release)
        except BaseException:
            release(None, 0.0)
            raise

    def close(self) -> None:
        """Close idle connections at once; the others are closed when their responses are left."""
        self.closed = True
        for place in self._places.values():
            while place.idle:
                place.idle.pop()[0].close()
        Watch.end_unused()

    async def _sent(
        self, request: Outgoing, place: _Place, bounds: Bounds, connect_at: float, release: Release
    ) -> Response:
        exchange = self._exchange(request)
        line = self._kept(place)
        if line is not None:
            try:
                return await _answer(line, exchange, bounds, release)
            except ModelConnectionError:
                if exchange.began:
                    raise
            exchange, connect_at = self._exchange(request), bounds.connect_at()
        try:
            anew = await bounds.connecting(connect_at, partial(self._connected, request.origin))
        except BaseException as error:
            if line is not None:  # the server may have processed it before `line` broke
                note_begun(error)
            raise
        return await _answer(anew, exchange, bounds, release)

    async def _enter(self, place: _Place, slots: trio.CapacityLimiter, slot: object) -> None:
        try:
            slots.acquire_on_behalf_of_nowait(slot)
        except trio.WouldBlock:
            await self._wait(place, slots, slot)

    async def _wait(self, place: _Place, slots: trio.CapacityLimiter, slot: object) -> None:
        if place.waiting >= self._limits.waiting_max:
            raise ModelConnectionError(
                f"all {self._limits.connections_max} connections to {place.origin} are in use, "
                f"and {place.waiting} requests wait for one: send fewer requests at once, or raise "
                "connections_max or waiting_max",
                code="waiting_max",
            )
        place.waiting += 1
        try:
            await slots.acquire_on_behalf_of(slot)
        finally:
            place.waiting -= 1

    async def _connected(self, origin: Origin) -> Line:
        try:
            return await connect(origin, self._tls)
        except (OSError, ValueError) as error:  # ValueError: the host name is invalid
            raise unreached(str(origin), error) from error

    def _exchange(self, request: Outgoing) -> Exchange:
        return Exchange(request, self._limits.head_bytes, self._limits.body_bytes)

    def _place(self, origin: Origin) -> _Place:
        place = self._places.get(origin)
        if place is None:
            most = self._limits.connections_max
            slots = None if most is None else trio.CapacityLimiter(most)
            place = self._places[origin] = _Place(origin, slots)
        return place

    def _kept(self, place: _Place) -> Line | None:
        now = trio.current_time()
        while place.idle:
            line, came_at, until = place.idle.pop()
            # a time in the future is from another `trio.run`, which has another clock
            if came_at <= now < until and line.quiet:
                return line
            line.close()
        return None

    def _release(
        self, place: _Place, slot: object, line: Line | None, keep_s: float | None
    ) -> None:
        if line is not None:
            self._keep(place, line, self._limits.keep_s if keep_s is None else keep_s)
        if place.slots is not None:
            place.slots.release_on_behalf_of(slot)

    def _keep(self, place: _Place, line: Line, keep_s: float) -> None:
        now = trio.current_time()
        place.idle.append((line, now, now + min(keep_s, self._limits.keep_s)))
        if self.closed or len(place.idle) > self._limits.idle_max:
            place.idle.popleft()[0].close()
        if not self._swept_at <= now < self._swept_at + SWEEP_S:
            self._swept_at = now
            for each in self._places.values():
                while each.idle and each.idle[0][2] <= now:
                    each.idle.popleft()[0].close()


async def _answer(line: Line, exchange: Exchange, bounds: Bounds, release: Release) -> Response:
    try:
        body = await ask(line, exchange, bounds)
    except BaseException:
        line.close()
        raise
    return Response(line, exchange, body, bounds, release)
