"""The types of the table of routes: paths, access rules, and handlers.

Both the application and its OpenAPI document are built from this table.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from orchestra.server.front.access import Access, known

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]
_VALUE = re.compile(r"<(?:[^:<>]+:)?(\w+)>")


class Route(msgspec.Struct, frozen=True):
    """One path and its handler. `name` is unique; `path` is in werkzeug's syntax.

    A WebSocket has no methods. `prepare` does the imports of a handler that defers them to the
    first request. A route with GET answers HEAD, too, unless `head` is False: where a GET starts or
    follows a run, nobody would read it.
    """

    name: str
    path: str
    handler: Handler
    summary: str
    access: Access = known
    methods: tuple[str, ...] = ("GET",)
    prepare: Callable[[], object] | None = None
    head: bool = True

    @property
    def websocket(self) -> bool:
        """Whether this is the route of a WebSocket."""
        return not self.methods

    @property
    def values(self) -> list[str]:
        """The names of the variables in the path."""
        return _VALUE.findall(self.path)

    @property
    def template(self) -> str:
        """The path in OpenAPI's syntax: `/v1/runs/{id}`."""
        return _VALUE.sub(r"{\1}", self.path)


class Later(Generic[T]):
    """An object whose methods handle routes, built at the first request to one of them.

    Until then its modules are not imported, since most parts of a server are not used at first.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self.get = cache(build)

    def route(
        self,
        name: str,
        path: str,
        method_of: Callable[[T], Handler],
        summary: str,
        *,
        methods: tuple[str, ...] = ("GET",),
        access: Access = known,
        head: bool = True,
    ) -> Route:
        """A route that is handled by the method `method_of(object)`."""

        async def handle(**values: object) -> Any:
            return await method_of(self.get())(**values)

        return Route(name, path, handle, summary, access, methods, self.get, head)
