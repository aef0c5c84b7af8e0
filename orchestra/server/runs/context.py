"""The context variables of a run: of the request that starts it, only its id and its trace."""

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
    """A copy of the current context, for runs that may outlive their requests."""

    def __init__(self) -> None:
        self._context = copy_context()

    def run(self, request_id: str, start: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `start` in it, with the request's id and trace, for the logs of its steps."""
        context = self._context.copy()
        context.run(REQUEST_ID.set, request_id)
        if (trace := TRACE.get()) is not None:
            context.run(TRACE.set, trace)
        return context.run(start, *args, **kwargs)
