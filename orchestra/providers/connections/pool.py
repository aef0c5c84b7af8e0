"""Connections to origins: kept when they are free, and no more at once than is wished.

The last that came back is the next to be used, and the rest grow old and are closed. Nothing
here is more work for more connections. Rules of the file: no task runs in it, so old connections
are looked for when others come and go; what is kept is no socket that has anything to read.
"""

from __future__ import annotations

import ssl
from collections import deque
from functools import partial

import attrs
import trio

from orchestra.errors import ModelConnectionError
from orchestra.protocols import Timeouts
from orchestra.providers.connections.connection import Answering, Back, Bounds, ask
from orchestra.providers.connections.http1 import Exchange, Origin, Outgoing
from orchestra.providers.connections.line import Line, connect, tls_context
from orchestra.providers.connections.unreached import unreached

SWEEP_S = 1.0


@attrs.frozen(kw_only=True)
class HttpLimits:
    """What one transport may hold, and what one answer may be."""

    head_bytes: int = 64 * 1024
    """Of an answer's head; what is over it by less than one read may still pass."""
    body_bytes: int = 256 * 1024 * 1024
    """Of an answer's body, inflated. 2,048 vectors of 3,072 numbers in JSON are about 75 MB."""
    keep_s: float = 30.0
    """For how long a free connection is kept; shorter where the server says so."""
    idle_max: int = 256
    """Free connections kept for one origin."""
    connections_max: int | None = None
    """Connections to one origin at once; more requests than that wait, the first first."""
    waiting_max: int = 1_000
    """Requests that may wait so; one more is refused."""


@attrs.define(eq=False)
class _Place:
    """What is known of one origin."""

    origin: Origin
    slots: trio.CapacityLimiter | None
    idle: deque[tuple[Line, float, float]] = attrs.field(factory=deque)
    """Free connections, with when they came and until when they are kept; the newest last."""
    waiting: int = 0


class Pool:
    """Asks over connections of its own; `close` it at the end."""

    def __init__(self, limits: HttpLimits | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._limits = limits or HttpLimits()
        self._tls = tls
        self._places: dict[Origin, _Place] = {}
        self._swept_at = 0.0
        self._closed = False

    async def ask(self, request: Outgoing, timeouts: Timeouts) -> Answering:
        """The answer to a request, as soon as its head is here.

        A kept connection that the server turns out to have closed, before a byte of an answer,
        is replaced by a new one, once.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s`, `idle_s` or `total_s` passed.
            ModelConnectionError: there is no connection (`code` is `connect`, and nothing has
                been asked), too many wait for one (`waiting_max`), or it broke (`cut`).
            MalformedStreamError: the answer is not HTTP.
        """
        if self._closed:
            raise ModelConnectionError(
                f"{request.origin} cannot be asked: the transport is closed", code="connect"
            )
        if self._tls is None and request.origin.scheme == "https":
            # Reading the system's authorities takes 20 ms and more: once, when they are needed,
            # and not on the time that a provider has.
            self._tls = tls_context()
        bounds = Bounds(timeouts, str(request.origin))
        connect_at = bounds.connect_at()
        place, slot = self._place(request.origin), object()
        if place.slots is not None:
            await bounds.connecting(connect_at, partial(self._enter, place, place.slots, slot))
        back = partial(self._back, place, slot)
        try:
            return await self._asked(request, place, bounds, connect_at, back)
        except BaseException:
            back(None, 0.0)
            raise

    def close(self) -> None:
        """Close what is free, at once; what is in use is closed when it is left."""
        self._closed = True
        for place in self._places.values():
            while place.idle:
                place.idle.pop()[0].close()

    async def _asked(
        self, request: Outgoing, place: _Place, bounds: Bounds, connect_at: float, back: Back
    ) -> Answering:
        exchange = self._exchange(request)
        line = self._kept(place)
        if line is not None:
            try:
                return await _answer(line, exchange, bounds, back)
            except ModelConnectionError:
                if exchange.began:
                    raise
            exchange, connect_at = self._exchange(request), bounds.connect_at()
        line = await bounds.connecting(connect_at, partial(self._connected, request.origin))
        return await _answer(line, exchange, bounds, back)

    async def _enter(self, place: _Place, slots: trio.CapacityLimiter, slot: object) -> None:
        try:
            slots.acquire_on_behalf_of_nowait(slot)
        except trio.WouldBlock:
            await self._wait(place, slots, slot)

    async def _wait(self, place: _Place, slots: trio.CapacityLimiter, slot: object) -> None:
        if place.waiting >= self._limits.waiting_max:
            raise ModelConnectionError(
                f"all {self._limits.connections_max} connections to {place.origin} are in use, "
                f"and {place.waiting} requests wait for one: ask for less at once, or raise "
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
        except (OSError, ValueError) as error:  # of a name that cannot be one, ValueError
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
            # what came later than now is from another run of Trio, with another clock
            if came_at <= now < until and line.quiet:
                return line
            line.close()
        return None

    def _back(self, place: _Place, slot: object, line: Line | None, keep_s: float | None) -> None:
        if line is not None:
            self._keep(place, line, self._limits.keep_s if keep_s is None else keep_s)
        if place.slots is not None:
            place.slots.release_on_behalf_of(slot)

    def _keep(self, place: _Place, line: Line, keep_s: float) -> None:
        now = trio.current_time()
        place.idle.append((line, now, now + min(keep_s, self._limits.keep_s)))
        if self._closed or len(place.idle) > self._limits.idle_max:
            place.idle.popleft()[0].close()
        if not self._swept_at <= now < self._swept_at + SWEEP_S:
            self._swept_at = now
            for each in self._places.values():
                while each.idle and each.idle[0][2] <= now:
                    each.idle.popleft()[0].close()


async def _answer(line: Line, exchange: Exchange, bounds: Bounds, back: Back) -> Answering:
    try:
        body = await ask(line, exchange, bounds)
    except BaseException:
        line.close()
        raise
    return Answering(line, exchange, body, bounds, back)
