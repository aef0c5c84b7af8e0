"""A request that is over one day: what is done then, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart.globals import _cv_request
from quart_trio.wrappers import TrioRequest
from quart_trio.wrappers.request import TrioBody

LEFT = 499
"""In counts the status of what was not answered, since its client had left: as nginx has it."""


class Departure:
    """What is done when a request is over, whatever ended it: the last that was asked for first.

    `held` gives back what it holds, or the run that it starts until that has ended.
    `route` is the pattern that it matched, and `status` that of its answer, once there is one.
    """

    __slots__ = ("acts", "held", "route", "status")

    def __init__(self) -> None:
        self.acts: tuple[Callable[[], None], ...] = ()
        self.held: Callable[[], None] | None = None
        self.route = ""
        self.status = LEFT

    def act(self) -> None:
        """Do it."""
        for each in reversed(self.acts):
            each()
        if (held := self.taken()) is not None:
            held()

    def taken(self) -> Callable[[], None] | None:
        """What gives back what is held, for whoever does that from now on."""
        held, self.held = self.held, None
        return held


class ArrivingBody(TrioBody):
    """A request's body, which nobody need wait for where all of it is here."""

    def here(self) -> bytes | None:
        """All of it; None where more is to come, and where it is too large."""
        if self._complete.is_set() and self._must_raise is None:
            return bytes(self._data)
        return None

    def discard(self) -> None:
        """Keep nothing of it, neither what is here nor what is still to come."""
        self.clear()
        self._must_raise = self._must_raise or RuntimeError("this body was discarded")


class DepartingRequest(TrioRequest):
    """A request whose handler may say what is done when it is over."""

    body_class = ArrivingBody
    body: ArrivingBody
    departure: Departure


def present() -> DepartingRequest:
    """The request that is being answered: `quart.request`, without the detour of a proxy."""
    context: Any = _cv_request.get()
    found: DepartingRequest = context.request
    return found
