"""Who may come in: so many at once, and of one address never all of them.

A connection that is slow on purpose holds its place for as long as its request may take to arrive,
or for as long as it reads a little now and then. What keeps the others served is that one address
may not hold every place: what it opens beyond its share is closed at once.

Rules of the file: a place that was taken is given back, however its connection ends; nobody waits
for a place whose address has none left.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

AGAIN_S = 0.1
"""How long to wait for a descriptor before the next attempt."""
QUIET_S = 60.0
"""For so long after the last failure, nothing is said of the next."""
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What says that this process or the machine has no room for another connection."""
_SHARE = 0.9
"""Of the places, what one address may hold where nothing is said; a proxy is one address, too."""
_NETWORK_BITS = 64
"""What of an IPv6 address is one customer's: whoever has one has all of the network."""


class BoundedListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts only while there is a place inside."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        self._places = trio.Semaphore(settings.connections_max)
        self._most = settings.connections_per_address_max
        self._usual = max(int(settings.connections_max * _SHARE), 1)
        self._addresses: dict[trio.SocketStream, str] = {}
        self._held: Counter[str] = Counter()
        self._quiet_until_s = -inf

    @property
    def inside(self) -> int:
        """How many clients have a place."""
        return len(self._addresses)

    async def accept(self) -> trio.SocketStream:
        """The next client, once there is a place for it."""
        while True:
            await self._places.acquire()
            try:
                stream = await self._accepted()
            except BaseException:
                self._places.release()
                raise
            if self._enters(stream):
                return stream
            stream.socket.close()
            self._places.release()

    async def _accepted(self) -> trio.SocketStream:
        """The next client; where there is no descriptor for it, once there is one.

        Trio's own loop would log a traceback ten times a second, for as long as that lasts.
        """
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if trio.current_time() >= self._quiet_until_s:
                    log.error(  # noqa: TRY400 - where it was raised says nothing
                        "nobody can be let in: %s; raise the limit (ulimit -n, LimitNOFILE), or "
                        "set connections_max in [server] well below it",
                        error.strerror,
                    )
                self._quiet_until_s = trio.current_time() + QUIET_S
            await trio.sleep(AGAIN_S)

    def left(self, stream: trio.SocketStream) -> None:
        """A client has left its place."""
        address = self._addresses.pop(stream)
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]
        self._places.release()

    async def aclose(self) -> None:
        """Close the listening socket."""
        await self._listener.aclose()

    def _enters(self, stream: trio.SocketStream) -> bool:
        """Take a place for its address, if that may have one more."""
        try:
            address, near = whose(stream.socket.getpeername()[0])
        except OSError:  # it has left already
            return False
        most = self._most or (None if near else self._usual)
        if most is not None and self._held[address] >= most:
            log.debug("a connection of %s is closed: it has %d open", address, most)
            return False
        self._held[address] += 1
        self._addresses[stream] = address
        return True


def whose(host: str) -> tuple[str, bool]:
    """For whom an address counts, and whether it is this machine's own, where a proxy may be."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            network = int(address) >> (128 - _NETWORK_BITS) << (128 - _NETWORK_BITS)
            return f"{IPv6Address(network)}/{_NETWORK_BITS}", address.is_loopback
        address = address.ipv4_mapped
    return str(address), address.is_loopback
