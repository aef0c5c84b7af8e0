"""The routes as one table: what can be asked for, by whom, and who answers.

The application is made from it, and so is the OpenAPI document: what is not in it does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from orchestra.server.front.access import Access

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
_VALUE = re.compile(r"<(?:[^:<>]+:)?(\w+)>")


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One path, and what is done there. `name` is unique; `path` is as werkzeug writes it.

    A WebSocket has no methods.
    """

    name: str
    path: str
    handler: Handler
    access: Access
    summary: str
    methods: tuple[str, ...] = ("GET",)

    @property
    def websocket(self) -> bool:
        """Whether a WebSocket is opened there."""
        return not self.methods

    @property
    def values(self) -> list[str]:
        """The names of the values in its path."""
        return _VALUE.findall(self.path)

    @property
    def template(self) -> str:
        """Its path as OpenAPI writes it: `/v1/runs/{id}`."""
        return _VALUE.sub(r"{\1}", self.path)


class Later(Generic[T]):
    """A handler of something that is made when it is first asked for."""

    def __init__(self, made: Callable[[], T], handler_of: Callable[[T], Handler]) -> None:
        self.made = made
        self._handler_of = handler_of

    async def handle(self, **values: object) -> Any:
        """What that handler answers."""
        return await self._handler_of(self.made())(**values)


def later(made: Callable[[], T], handler_of: Callable[[T], Handler]) -> Handler:
    """A handler of what is made when it is first asked for.

    So its modules are no part of a start: most of what a server can do, no client asks at first.
    """
    return Later(made, handler_of).handle


def make_now(routes: Iterable[Route]) -> None:
    """Make what handlers are of that would be made when they are first asked for."""
    for route in routes:
        owner = getattr(route.handler, "__self__", None)
        if isinstance(owner, Later):
            owner.made()
