"""The current request: its caller, its body, and the callbacks for its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from quart.globals import _cv_request
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody

from orchestra.server.front.arrival import Arrival

if TYPE_CHECKING:
    from orchestra.access.principal import Principal

LEFT = 499
"""The status in metrics of a request whose client left before the response, as in nginx."""


class Departure:
    """Callbacks for the end of a request, however it ends; the last added is called first.

    `held` frees resources that the request holds, or that its run holds until its end. `route` is
    the matched pattern, and `status` that of the response, once there is one.
    """

    __slots__ = ("acts", "held", "route", "status")

    def __init__(self) -> None:
        self.acts: tuple[Callable[[], None], ...] = ()
        self.held: Callable[[], None] | None = None
        self.route = ""
        self.status = LEFT

    def act(self) -> None:
        """Call the callbacks."""
        for each in reversed(self.acts):
            each()
        if (held := self.taken()) is not None:
            held()

    def taken(self) -> Callable[[], None] | None:
        """Take over `held`, whose call is then the caller's task."""
        held, self.held = self.held, None
        return held


class ArrivingBody(TrioBody):
    """A request's body, available without waiting if it has arrived completely."""

    def here(self) -> bytes | None:
        """The whole body; None if it is incomplete or too large."""
        if self._complete.is_set() and self._must_raise is None:
            return bytes(self._data)
        return None

    def discard(self) -> None:
        """Drop the body, including the part that is still to arrive."""
        self.clear()
        self._must_raise = self._must_raise or RuntimeError("this body was discarded")


class DepartingRequest(TrioRequest):
    """A request to whose end a handler can add callbacks."""

    body_class = ArrivingBody
    body: ArrivingBody
    departure: Departure

    @cached_property
    def content_length(self) -> int | None:
        """The announced length of the body, which the layers have checked; None without one.

        Werkzeug's property raises an error within itself for each header that is missing.
        """
        length = Arrival.of(self.scope).header(b"content-length") or ""
        return int(length) if length.isdecimal() else None


def present() -> DepartingRequest:
    """The current request: `quart.request`, without its proxy object."""
    context: Any = _cv_request.get()
    found: DepartingRequest = context.request
    return found


def arrived() -> Arrival:
    """The arrival of the current request."""
    return Arrival.of(present().scope)


def principal() -> Principal:
    """The caller of the current request, for routes that require a key.

    Raises:
        PermissionError: there is no principal, as in `Arrival.known`.
    """
    return arrived().known()


def when_over(act: Callable[[], None]) -> None:
    """Call `act` when the current request is over, whatever ends it."""
    departure = present().departure
    departure.acts = (*departure.acts, act)


async def whole_body() -> bytes:
    """The body of the current request, without a timer or a wait if it has all arrived.

    Raises:
        RequestEntityTooLarge: the body is larger than its limit.
        RequestTimeout: the body does not arrive in time.
    """
    here = present().body.here()
    return here if here is not None else cast("bytes", await present().get_data())
