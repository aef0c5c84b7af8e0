"""DNS look-ups, limited for each host name, so that a slow one does not block anything else.

A look-up blocks a worker thread, even after its caller was cancelled. Trio has forty worker threads
for all blocking calls of a process. If one provider's name server did not answer, its look-ups used
all of them, and every other call in a thread (a vector store, a tool, the name of another provider)
had to wait.

Rules of the file: each host name has a few threads of its own. A resolver that the program has set
itself is left in place.
"""

from __future__ import annotations

import socket
from typing import Any
from weakref import WeakValueDictionary

import trio

AT_ONCE = 8
"""The most concurrent look-ups of one name, including those whose caller was cancelled."""


class Lookups(trio.abc.HostnameResolver):
    """The system's resolver, with at most `AT_ONCE` look-ups of one name."""

    def __init__(self) -> None:
        self._threads: WeakValueDictionary[object, trio.CapacityLimiter] = WeakValueDictionary()
        """The limiter of each name, which lives as long as a look-up of the name uses it."""

    async def getaddrinfo(  # noqa: PLR0917 - Trio's signature
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - Trio's own name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """The addresses of a host name. Raises OSError if there are none."""
        query = host, port, family, type, proto, flags
        return await trio.to_thread.run_sync(
            socket.getaddrinfo, *query, abandon_on_cancel=True, limiter=self._of(host)
        )

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """The host name of an address. Raises OSError if there is none."""
        return await trio.to_thread.run_sync(
            socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True, limiter=self._of(sockaddr)
        )

    def _of(self, name: object) -> trio.CapacityLimiter:
        threads = self._threads.get(name)
        if threads is None:
            threads = self._threads[name] = trio.CapacityLimiter(AT_ONCE)
        return threads


def limit_lookups() -> None:
    """Install this resolver in the current `trio.run`, unless it has a custom one already."""
    before = trio.socket.set_custom_hostname_resolver(Lookups())
    if before is not None:
        trio.socket.set_custom_hostname_resolver(before)
