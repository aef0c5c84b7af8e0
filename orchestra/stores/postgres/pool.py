"""A pool of connections to one database: a bounded number, which are kept for later calls.

Rules of the file:

1. Calls that wait for a connection get one in order; a call that is cancelled while waiting takes
   none.
2. A connection returns to the pool only at rest; any other is closed.
3. If a kept connection turns out to be lost, the call is retried on a new connection, unless it may
   have changed something.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import attrs
import psycopg
import trio

from orchestra.errors import BindingError, StoreError
from orchestra.secret import Secret, read_secret
from orchestra.stores.postgres import connection as connections
from orchestra.stores.postgres.connection import STOP_S, TrioConnection
from orchestra.stores.postgres.refusals import explained
from orchestra.stores.postgres.schema import look

T = TypeVar("T")

IDLE_S = 60.0
"""A connection that was idle for so long is closed: a firewall may have dropped it."""
AGE_S = 1800.0
"""An older connection is closed: the host name may belong to another server by now."""

_FAILURES = (psycopg.Error, OSError, BindingError, UnicodeEncodeError, trio.ClosedResourceError)


@attrs.frozen
class Address:
    """The address of a database: libpq's parameters, without the password.

    `place` names the database in messages. If `password` is a path, the password is read from that
    file for each connection.
    """

    place: str
    parameters: Mapping[str, str]
    password: Secret | Path | None = None


@attrs.frozen
class _Kept:
    connection: TrioConnection
    made_s: float
    since_s: float


class Pool:
    """At most `size` connections to a database; a call may take `timeout_s`, including waiting.

    Belongs to one `trio.run` at a time.
    """

    def __init__(self, address: Address, *, size: int, timeout_s: float) -> None:
        self.place = address.place
        self.timeout_s = timeout_s
        self._address = address
        self._size = size
        self._slots = trio.Semaphore(size)
        self._kept: list[_Kept] = []  # the one used last is last
        self._closed = False

    async def run(
        self,
        work: Callable[[TrioConnection], Awaitable[T]],
        timeout_s: float | None = None,
        *,
        writes: bool = False,
    ) -> T:
        """Run `work` with a connection, and return its result.

        If it `writes` and fails, its changes may or may not have been made. `timeout_s` replaces
        the timeout of the pool.

        Raises:
            StoreError: the database cannot be reached, refuses, or takes too long.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(limit_s):
            async with self._slots:
                return await self._tried(work)
        in_doubt = "; the change may or may not have been made" if writes else ""
        raise StoreError(
            f"{self.place}: it took longer than timeout_s = {limit_s:g} s, with at most "
            f"{self._size} calls at once{in_doubt}. Check Postgres, or raise "
            "timeout_s or connections_max in [stores]"
        )

    def close(self) -> None:
        """Close all connections that are not in use; later calls raise StoreError."""
        self._closed = True
        self._drop_kept()

    def _drop_kept(self) -> None:
        kept, self._kept = self._kept, []
        for each in kept:
            each.connection.drop()

    async def _tried(self, work: Callable[[TrioConnection], Awaitable[T]]) -> T:
        password = None
        try:
            kept = self._take()
            if kept is not None:
                try:
                    return await self._used(kept.connection, kept.made_s, work)
                except psycopg.OperationalError:
                    if kept.connection.at_rest or kept.connection.begun:
                        raise
            password = self._password()
            made = await self._made(password)
            return await self._used(made, time.monotonic(), work)
        except _FAILURES as error:
            raise explained(self.place, error, password) from error

    async def _used(
        self,
        connection: TrioConnection,
        made_s: float,
        work: Callable[[TrioConnection], Awaitable[T]],
    ) -> T:
        connection.begun = False
        try:
            return await work(connection)
        except psycopg.errors.ReadOnlySqlTransaction:
            connection.drop()  # another host may accept writes by now
            raise
        except psycopg.ProgrammingError:
            connection.vector_in = None  # somebody may have removed or moved our schema
            raise
        finally:
            if not connection.at_rest and not connection.broken:
                with trio.move_on_after(STOP_S, shield=True), suppress(psycopg.Error):
                    await connection.execute("ROLLBACK")
            if connection.at_rest and not self._closed:
                self._kept.append(_Kept(connection, made_s, time.monotonic()))
            else:
                connection.drop()
                self._drop_kept()  # the other connections may be lost, too

    def _take(self) -> _Kept | None:
        """The connection that was used last, of those that are not too old; closes the others."""
        if self._closed:
            raise StoreError(f"{self.place}: the stores are closed; make new PostgresStores(...)")
        now_s = time.monotonic()
        good = [k for k in self._kept if now_s - k.since_s < IDLE_S and now_s - k.made_s < AGE_S]
        for each in self._kept:
            if each not in good:
                each.connection.drop()
        self._kept = good
        return self._kept.pop() if self._kept else None

    async def _made(self, password: Secret | None) -> TrioConnection:
        parameters = dict(self._address.parameters)
        if password is not None:
            parameters["password"] = password.reveal()
        made = await connections.connected(parameters)
        made.place = self.place
        try:
            await look(made)
        except BaseException:
            made.drop()
            raise
        return made

    def _password(self) -> Secret | None:
        found = self._address.password
        return read_secret(found, "password") if isinstance(found, Path) else found
