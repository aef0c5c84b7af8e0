"""DNS look-ups, with a limit per name, so that an unanswered one does not block anything else.

A look-up blocks a thread, even after its caller has gone. Trio has forty threads for all blocking
calls of a process. If one provider's name server was silent, its look-ups used all of them, and
every other thread (for a vector store, a tool, another provider's name) had to wait.

Rules of the file: each name has a few threads of its own. A program's own resolver is left
unchanged.
"""

from __future__ import annotations

import socket
from typing import Any
from weakref import WeakValueDictionary

import trio

AT_ONCE = 8
"""The most concurrent look-ups of one name, including abandoned ones."""


class Lookups(trio.abc.HostnameResolver):
    """The system's resolver, with at most `AT_ONCE` look-ups of one name."""

    def __init__(self) -> None:
        self._threads: WeakValueDictionary[object, trio.CapacityLimiter] = WeakValueDictionary()
        """By the name; whoever looks it up holds them."""

    async def getaddrinfo(  # noqa: PLR0917 - Trio's signature
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - Trio's own name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """The addresses of a name. Raises OSError if there are none."""
        asked = host, port, family, type, proto, flags
        return await trio.to_thread.run_sync(
            socket.getaddrinfo, *asked, abandon_on_cancel=True, limiter=self._of(host)
        )

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """The name of an address. Raises OSError if there is none."""
        return await trio.to_thread.run_sync(
            socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True, limiter=self._of(sockaddr)
        )

    def _of(self, name: object) -> trio.CapacityLimiter:
        threads = self._threads.get(name)
        if threads is None:
            threads = self._threads[name] = trio.CapacityLimiter(AT_ONCE)
        return threads


def limit_lookups() -> None:
    """Use these look-ups in this run of Trio, unless it has another resolver."""
    before = trio.socket.set_custom_hostname_resolver(Lookups())
    if before is not None:
        trio.socket.set_custom_hostname_resolver(before)
