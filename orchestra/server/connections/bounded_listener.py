"""Limits the number of connections, in total and per address.

A deliberately slow client occupies a slot for as long as its request may take to arrive, or as long
as it reads a little from time to time. So one address may not occupy all slots: connections above
its share are closed at once.

Nor may clients take the last file descriptors: then the calls of models would fail, and open the
breakers of healthy models. So they get no more than half.

Rules of the file: every slot is freed, however its connection ends; a connection from an address at
its limit does not wait.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

AGAIN_S = 0.1
"""Seconds to wait for a file descriptor before the next attempt."""
QUIET_S = 60.0
"""Seconds after a failure for which further ones are not logged."""
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that mean that the process or the machine has no resources for another connection."""
_OWN_DESCRIPTORS = 32
"""File descriptors of the process itself: its log, its state, its stores, its event loop."""
_SHARE = 0.9
"""The default share of the slots for one address, which may be that of a proxy."""
_NETWORK_BITS = 64
"""The bits of an IPv6 address that identify a customer, who owns all addresses with them."""


class BoundedListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts connections only while slots are free."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        most = clients_max(settings.connections_max)
        self._slots = trio.Semaphore(most)
        self._lowered = most < settings.connections_max
        self._most = settings.connections_per_address_max
        self._usual = max(int(most * _SHARE), 1)
        self._addresses: dict[trio.SocketStream, str] = {}
        self._held: Counter[str] = Counter()
        self._quiet_until_s = -inf

    @property
    def inside(self) -> int:
        """The number of open connections."""
        return len(self._addresses)

    async def accept(self) -> trio.SocketStream:
        """The next connection, once a slot is free."""
        while True:
            if self._lowered and not self._slots.value:
                open_now = f"{self.inside} are open, as many as the limit on open files allows"
                self._tell_full(open_now, "")
            await self._slots.acquire()
            try:
                stream = await self._accepted()
            except BaseException:
                self._slots.release()
                raise
            if self._enters(stream):
                return stream
            stream.socket.close()
            self._slots.release()

    async def _accepted(self) -> trio.SocketStream:
        """The next connection; waits for a file descriptor if there is none.

        Meanwhile, Trio's own loop would log a traceback ten times a second.
        """
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                instead = ", or set connections_max in [server] well below it"
                self._tell_full(str(error.strerror), instead)
            await trio.sleep(AGAIN_S)

    def _tell_full(self, why: str, instead: str) -> None:
        """Log that clients have to wait, unless that was logged recently."""
        if trio.current_time() >= self._quiet_until_s:
            told = "no connection can be accepted: %s; raise the limit (ulimit -n, LimitNOFILE)%s"
            log.error(told, why, instead)
        self._quiet_until_s = trio.current_time() + QUIET_S

    def arrived(self, listener: socket.socket) -> Iterator[trio.SocketStream]:
        """The connections that wait to be accepted by a socket, as far as slots are free.

        If the socket were closed instead, the kernel would reset them, with their requests.
        """
        with suppress(OSError, trio.WouldBlock):
            while True:
                self._slots.acquire_nowait()
                try:
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(listener.accept()[0]))
                except OSError:  # there is none
                    self._slots.release()
                    raise
                if self._enters(stream):
                    yield stream
                else:
                    stream.socket.close()
                    self._slots.release()

    def left(self, stream: trio.SocketStream) -> None:
        """Free the slot of a connection that has ended."""
        address = self._addresses.pop(stream)
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]
        self._slots.release()

    async def aclose(self) -> None:
        """Close the listening socket."""
        await self._listener.aclose()

    def _enters(self, stream: trio.SocketStream) -> bool:
        """Count a connection for its address, and return whether the address may have it."""
        try:
            address, near = whose(stream.socket.getpeername()[0])
        except OSError:  # the client has left already
            return False
        most = self._most or (None if near else self._usual)
        if most is not None and self._held[address] >= most:
            log.debug("a connection of %s is closed: it has %d open", address, most)
            return False
        self._held[address] += 1
        self._addresses[stream] = address
        return True


def clients_max(wanted: int) -> int:
    """How many clients of those `wanted` leave each a descriptor for the call of a model."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max((soft - _OWN_DESCRIPTORS) // 2, 1))


def whose(host: str) -> tuple[str, bool]:
    """The address or network to count, and whether it is this machine (as for a local proxy)."""
    address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            network = int(address) >> (128 - _NETWORK_BITS) << (128 - _NETWORK_BITS)
            return f"{IPv6Address(network)}/{_NETWORK_BITS}", address.is_loopback
        address = address.ipv4_mapped
    return str(address), address.is_loopback
