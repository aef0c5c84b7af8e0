"""The context of a run from the request that starts it: the request's id, and its trace."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from orchestra.observe.trace_context import TRACE
from orchestra.server.front.arrival import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class RunContext:
    """The context of whoever has made this, for runs that live on when their request has gone."""

    def __init__(self) -> None:
        self._context = copy_context()

    def run(self, request_id: str, start: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Start one in it, for a request of this id: what its steps log has it."""
        context = self._context.copy()
        context.run(REQUEST_ID.set, request_id)
        if (trace := TRACE.get()) is not None:
            context.run(TRACE.set, trace)
        return context.run(start, *args, **kwargs)
