"""Looking up names, so that a name that nobody answers for holds up nothing else.

A look-up blocks a thread, and goes on there when nobody waits for it any more. Trio has forty of
them for all that blocks in a process: while the name server of one provider was silent, its calls
had them all, and whatever else wanted a thread (a vector store, a tool, the name of another
provider) stood in line.

Rules of the file: each name has threads of its own, a few; and where a program looks up names in a
way of its own, that is left as it is.
"""

from __future__ import annotations

import socket
from typing import Any
from weakref import WeakValueDictionary

import trio

AT_ONCE = 8
"""Look-ups of one name at once, those included that nobody waits for any more."""


class Lookups(trio.abc.HostnameResolver):
    """The system's own look-ups, of one name `AT_ONCE`."""

    def __init__(self) -> None:
        self._threads: WeakValueDictionary[object, trio.CapacityLimiter] = WeakValueDictionary()
        """By the name; whoever looks it up holds them."""

    async def getaddrinfo(  # noqa: PLR0917 - as Trio has it
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - Trio's own name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """The addresses of a name. Raises OSError where there are none."""
        asked = host, port, family, type, proto, flags
        return await trio.to_thread.run_sync(
            socket.getaddrinfo, *asked, abandon_on_cancel=True, limiter=self._of(host)
        )

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        """The name of an address. Raises OSError where there is none."""
        return await trio.to_thread.run_sync(
            socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True, limiter=self._of(sockaddr)
        )

    def _of(self, name: object) -> trio.CapacityLimiter:
        threads = self._threads.get(name)
        if threads is None:
            threads = self._threads[name] = trio.CapacityLimiter(AT_ONCE)
        return threads


def look_up_apart() -> None:
    """Have this run of Trio look names up so, unless it was told of another way."""
    before = trio.socket.set_custom_hostname_resolver(Lookups())
    if before is not None:
        trio.socket.set_custom_hostname_resolver(before)
