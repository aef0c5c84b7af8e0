"""A request as it has arrived: what the layers in front of the handlers find out about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from orchestra.access.principal import Principal

KEY = "orchestra"
"""Under which an arrival stands in its ASGI scope."""
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task serves, for log lines; "" outside of one."""

MESSAGES = "/v1/messages"
Headers = list[tuple[bytes, bytes]]


class Arrival:
    """A request, or a WebSocket that wants to be opened; `principal` is None of a stranger."""

    __slots__ = ("headers", "principal", "request_id", "scope")

    def __init__(
        self,
        scope: Mapping[str, Any],
        request_id: str = "",
        principal: Principal | None = None,
    ) -> None:
        self.scope = scope
        self.request_id = request_id
        self.principal = principal
        self.headers: Headers = []
        """What the head of its answer has beside its own."""

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Arrival:
        """That of a scope; a new one, where no layer has seen it."""
        found = scope.get(KEY)
        return cls(scope) if found is None else cast("Arrival", found)

    @property
    def path(self) -> str:
        """The path that it asks for, as routes are matched: see `routed`."""
        return routed(str(self.scope["path"]))

    def header(self, name: bytes) -> str | None:
        """The first header of this name, which is in lower case."""
        found: bytes | None = dict(reversed(self.scope["headers"])).get(name)
        return None if found is None else found.decode("latin1")

    def all_of(self, name: bytes) -> list[str]:
        """Every header of this name, which is in lower case."""
        return [value.decode("latin1") for key, value in self.scope["headers"] if key == name]

    @property
    def of_anthropic(self) -> bool:
        """Whether a client of Anthropic's asks: each of its requests says which version it speaks.

        At its own paths, whoever asks.
        """
        return is_anthropic(self.path) or self.header(b"anthropic-version") is not None

    def tell_id(self) -> None:
        """Have its id in the head of the answer; Anthropic's clients look for it elsewhere."""
        names = (b"x-request-id", *([b"request-id"] if self.of_anthropic else []))
        self.headers += [(name, self.request_id.encode()) for name in names]

    def known(self) -> Principal:
        """Who it is, where the matched route lets nobody else in.

        Raises:
            PermissionError: a stranger came this far; it is a mistake in the table of routes.
        """
        if self.principal is None:
            raise PermissionError(
                f"nobody is known to have asked for {self.path}; give its route an access other "
                "than public, or do not ask who it is"
            )
        return self.principal


def is_anthropic(path: str) -> bool:
    """Whether a path is one that only Anthropic's clients ask."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def routed(path: str) -> str:
    """The path by which routes are matched, of one that may be a whole URL, or no path at all.

    One slash is in front of it, as Werkzeug has it: who looked at `//v1/runs` as it came would let
    it pass as none of ours, and its handler would be called all the same.
    """
    if not path.startswith("/"):
        try:
            path = urlsplit(path).path
        except ValueError:  # `http://[`
            path = ""
    return "/" + path.lstrip("/")
