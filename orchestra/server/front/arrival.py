"""A request, with the facts about it that the layers before the handlers have found out."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from orchestra.access.principal import Principal
    from orchestra.server.responses.problems import HttpProblem

KEY = "orchestra"
"""The key of an arrival in its ASGI scope."""
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task serves, for logs; "" outside of a request."""

MESSAGES = "/v1/messages"
Headers = list[tuple[bytes, bytes]]
_NO_STORE = (b"cache-control", b"no-store")
"""Without it, a cache between client and server may keep a response: some keep each for a day."""


class Arrival:
    """A request or a WebSocket handshake; `principal` is None without a key."""

    __slots__ = ("_received", "headers", "principal", "request_id", "scope", "unless_begun")

    def __init__(
        self,
        scope: Mapping[str, Any],
        request_id: str = "",
        principal: Principal | None = None,
    ) -> None:
        self.scope = scope
        self.request_id = request_id
        self.principal = principal
        self.headers: Headers = [_NO_STORE]
        """Headers to add to those that the response has itself."""
        self.unless_begun: HttpProblem | None = None
        """The response if the request's idempotency key does not stand for a run yet."""
        self._received: dict[bytes, bytes] | None = None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Arrival:
        """The arrival in an ASGI scope; a new one if no layer has stored one."""
        found = scope.get(KEY)
        return cls(scope) if found is None else cast("Arrival", found)

    @property
    def path(self) -> str:
        """The request's path, as used for matching routes: see `routed`."""
        return routed(str(self.scope["path"]))

    def header(self, name: bytes) -> str | None:
        """The first header of this name, which is in lower case."""
        if self._received is None:
            self._received = dict(reversed(self.scope["headers"]))  # so that the first one remains
        value = self._received.get(name)
        return None if value is None else str(value, "latin1")

    def all_of(self, name: bytes) -> list[str]:
        """Every header of this name, which is in lower case."""
        return [value.decode("latin1") for key, value in self.scope["headers"] if key == name]

    def forget_headers(self) -> None:
        """Free the memory of the received headers, which a stream does not need; it has none."""
        self._received = {}

    @property
    def of_anthropic(self) -> bool:
        """Whether it is a request to Anthropic's API: by its path, or by its version header."""
        return is_anthropic(self.path) or self.header(b"anthropic-version") is not None

    def tell_id(self) -> None:
        """Add the request's id to the response's headers, also under the name Anthropic uses."""
        names = (b"x-request-id", *([b"request-id"] if self.of_anthropic else []))
        self.headers += [(name, self.request_id.encode()) for name in names]

    def known(self) -> Principal:
        """The principal, for routes that require one.

        Raises:
            PermissionError: there is none, which is a mistake in the table of routes.
        """
        if self.principal is None:
            raise PermissionError(
                f"the request for {self.path} has no principal, since its route is `public`; give "
                "the route another access rule, or do not ask for the principal"
            )
        return self.principal


def is_anthropic(path: str) -> bool:
    """Whether only Anthropic's clients request this path."""
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")


def routed(path: str) -> str:
    """The path for matching routes, from a target that may be a whole URL, or not be a path at all.

    It begins with exactly one slash, as in Werkzeug: otherwise the layers would not recognize
    `//v1/runs` as one of our paths, although its handler would be called.
    """
    if not path.startswith("/"):
        try:
            path = urlsplit(path).path
        except ValueError:  # `http://[`
            path = ""
    return "/" + path.lstrip("/")
